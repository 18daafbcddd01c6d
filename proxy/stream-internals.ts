/** What a write is asked for with. Only one that is not done at once is told of in the end. */
export interface WriteRequest {
  /** Gives 0, or the code of an error, which is negative. */
  oncomplete?: (status: number) => void;
}

/** How Node.js tells JavaScript of reads and writes, below net.Socket. */
interface StreamInternals {
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

const internals = load();
const { state, readBytesOrError, lastWriteWasAsync, WriteWrap } = internals ?? {
  ...{ state: new Int32Array(1), readBytesOrError: 0, lastWriteWasAsync: 0 },
  WriteWrap: Object as unknown as new () => WriteRequest,
};

/** Whether reads and writes can be had below the sockets' streams. The rest has a meaning only then. */
export const hasStreamInternals = internals !== undefined;

export function newWriteRequest(): WriteRequest {
  return new WriteWrap();
}

/** How many bytes were read, within `onread` of a handle; below 1 for an end or an error. */
export function lastReadLength(): number {
  return state[readBytesOrError] as number;
}

/** Whether the system has taken at once all of the last write. */
export function wasWrittenAtOnce(): boolean {
  return state[lastWriteWasAsync] === 0;
}
