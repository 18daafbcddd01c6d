import { ABANDONED } from './conversation.ts';
import { raisableFields, reportFieldsOf, type ReportFields } from './errors.ts';
import { Unverified } from './request-verifier.ts';
import { WorkerFailure, type Reply } from './session-calls.ts';

/** What a function is told, undefined for nothing at all, and what it will raise then. */
export interface Answer {
  readonly reply: object | undefined;
  readonly raises?: {
    readonly error?: ReportFields;
    readonly pid?: number;
    readonly notices?: readonly ReportFields[];
    /** What is to be done when the function has been told. */
    readonly consume?: () => Promise<void>;
  };
}

/** The answer with what a call gives. */
export function answerOf({ worker, ...ok }: Reply): Answer {
  const notices = worker?.output.notices ?? [];
  return {
    reply: { ok: { ...ok, ...(notices.length > 0 && { notices: notices.map(raisableFields) }) } },
    ...(worker && { raises: { notices, pid: worker.pid } }),
  };
}

/** The answer to a call that has failed. Nobody listens to one that is abandoned, and who forges requests learns nothing. */
export function refusalOf(error: unknown): Answer {
  if (error === ABANDONED || error instanceof Unverified) return { reply: undefined };
  if (error instanceof WorkerFailure) {
    const { error: fields, pid, notices, consume } = error;
    return {
      reply: { error: raisableFields(fields), notices: notices.map(raisableFields) },
      raises: { error: fields, pid, notices, consume },
    };
  }
  const fields = reportFieldsOf(error);
  return { reply: { error: fields }, raises: { error: fields } };
}

/** Replies are JSON in the database's encoding: strings hold its bytes, one a character. */
export function encodeReply(reply: object): Buffer {
  return Buffer.from(JSON.stringify(reply), 'latin1');
}
