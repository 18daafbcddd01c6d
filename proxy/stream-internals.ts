/** What C++ puts into `streamBaseState` of Node.js about the read that it tells of, or the write that was asked for. */
export interface StreamInternals {
  /** What a write is asked for with. May be used again when the write was done at once. */
  readonly WriteWrap: new () => object;
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
      WriteWrap: WriteWrap as new () => object,
      state,
      readBytesOrError: kReadBytesOrError,
      lastWriteWasAsync: kLastWriteWasAsync,
    };
  } catch {
    return undefined;
  }
}

export const streamInternals = load();
