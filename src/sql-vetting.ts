import { once } from 'node:events';
import { Worker as Thread } from 'node:worker_threads';
import { BackgroundError, type DatabaseText } from './errors.ts';
import { vetWorkerSql } from './sql-text.ts';

/** Longer texts are parsed in a thread of their own: parsing takes about a second for each megabyte. */
export const MAX_INLINE_LENGTH = 64 * 1024;

/** What the vetting thread answers. */
export type Verdict =
  | { readonly statements: number | undefined }
  | { readonly refusal: { readonly code: string; readonly message: string } };

/**
 * vetWorkerSql for texts of any length.
 * @returns the number of statements; undefined when the text does not parse
 * @throws BackgroundError 0A000, or the signal's reason when nobody wants to know any more
 */
export async function vetAnyWorkerSql(
  sql: DatabaseText,
  signal: AbortSignal,
): Promise<number | undefined> {
  signal.throwIfAborted();
  if (sql.length <= MAX_INLINE_LENGTH) return vetWorkerSql(sql);
  const thread = new Thread(new URL('./sql-vetting-thread.js', import.meta.url), {
    workerData: sql,
  });
  try {
    const [verdict] = (await once(thread, 'message', { signal }).catch((error: unknown) => {
      signal.throwIfAborted();
      throw error;
    })) as [Verdict];
    if ('refusal' in verdict)
      throw new BackgroundError(verdict.refusal.code, verdict.refusal.message);
    return verdict.statements;
  } finally {
    await thread.terminate();
  }
}
