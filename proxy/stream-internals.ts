/** What a write is asked for with. Only one that is not done at once is told of in the end. */
export interface WriteRequest {
  /** Gives 0, or the code of an error, which is negative. */
  oncomplete?: (status: number) => void;
}

/** How Node.js tells JavaScript of reads and writes, below net.Socket. */
export interface StreamInternals {
  readonly WriteWrap: new () => WriteRequest;
  /** Says how the read went that is told of, or the write that was asked for. */
  readonly state: Int32Array;
  /** Index of the bytes that were read; below 1 for an end or an error. */
  readonly readBytesOrError: number;
  /** Index of whether the system has not taken everything at once. */
  readonly lastWriteWasAsync: number;
}

/** The module of Node.js below net.Socket, or undefined where it is not what we know. */
function load(): StreamInternals | undefined {
  try {
    const { binding } = process as { binding?: (name: string) => Record<string, unknown> };
    const found = binding?.('stream_wrap');
    const {
      WriteWrap,
      streamBaseState: state,
      kReadBytesOrError,
      kLastWriteWasAsync,
    } = found ?? {};
    if (typeof WriteWrap !== 'function' || !(state instanceof Int32Array)) return undefined;
    if (typeof kReadBytesOrError !== 'number' || typeof kLastWriteWasAsync !== 'number')
      return undefined;
    return {
      WriteWrap: WriteWrap as new () => WriteRequest,
      state,
      readBytesOrError: kReadBytesOrError,
      lastWriteWasAsync: kLastWriteWasAsync,
    };
  } catch {
    return undefined;
  }
}

export const streamInternals = load();
