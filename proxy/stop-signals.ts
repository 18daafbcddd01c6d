/** npm and the terminal may both pass on the same Ctrl-C: what follows within this time is the same wish. */
const SAME_WISH_MS = 1_000;

/** What whoever runs the process wants: that it ends in order, and then that it ends without waiting. */
export interface StopSignals {
  readonly asked: AbortSignal;
  readonly urgent: AbortSignal;
}

/** Listens to SIGINT, SIGTERM and, at a terminal, to its closing. */
export function listenToStopSignals(): StopSignals {
  const asked = new AbortController();
  const urgent = new AbortController();
  let askedAt = 0;
  const stop = () => {
    if (!asked.signal.aborted) {
      askedAt = Date.now();
      asked.abort();
    } else if (Date.now() - askedAt > SAME_WISH_MS) {
      urgent.abort();
    }
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  // Elsewhere it asks a server to read its files again, which we do by ourselves; or the terminal is
  // gone that nohup wants us to outlive.
  process.on('SIGHUP', process.stdout.isTTY ? stop : () => {});
  return { asked: asked.signal, urgent: urgent.signal };
}

/** Settles when a signal aborts. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
