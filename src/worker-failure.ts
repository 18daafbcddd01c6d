import { reportFieldsOf, ServerError, type DatabaseText, type ReportFields } from './errors.ts';

/** What the server says when it cancels a statement that takes too long. */
export const TIMED_OUT = 'canceling statement due to statement timeout';

/** How a worker ends that is cancelled without grace. */
export const TERMINATED =
  'terminating background worker "pg_background" due to administrator command';

/** What is known of a worker that has failed. */
export interface FailedWorker {
  readonly pid: number;
  readonly sql: DatabaseText;
  /** Whether it was cancelled for the time that it took. */
  readonly wasTimedOut: boolean;
  /** Whether its connection is gone. */
  readonly wasLost: boolean;
}

/** The error of a worker's SQL as the C extension words it. */
export function describeFailure(
  error: unknown,
  { pid, sql, wasTimedOut, wasLost }: FailedWorker,
): ReportFields {
  if (wasTimedOut && error instanceof ServerError && error.fields.code === '57014') {
    return { ...error.fields, message: TIMED_OUT };
  }
  const fields = reportFieldsOf(error);
  if (fields.code === '57P01' && fields.severity === 'FATAL')
    return { ...fields, severity: 'ERROR', message: TERMINATED };
  if (wasLost && !(error instanceof ServerError)) {
    return {
      severity: 'ERROR',
      code: '08006',
      message: `lost connection to worker process with PID ${pid}`,
    };
  }
  if (fields.position === undefined || fields.internalPosition !== undefined)
    return { ...fields, severity: 'ERROR' };
  // The reader's own statement is another text: the position is one in the worker's.
  return {
    ...fields,
    severity: 'ERROR',
    position: undefined,
    internalPosition: fields.position,
    internalQuery: sql,
  };
}
