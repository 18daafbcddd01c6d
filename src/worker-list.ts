import { arrayLiteral } from './column-chunks.ts';
import { abbreviate, cutText } from './database-text.ts';
import type { Worker } from './worker.ts';

/** Bytes of the SQL, and of an error's message, that a list shows. */
const PREVIEW_BYTES = 120;
const ERROR_BYTES = 512;

/** What pg_background_list_v2 shows of workers: for each of its nine columns an array literal. */
export function listColumns(workers: readonly Worker[], encoding: string): string[] {
  const rows = workers.map((worker): (string | null)[] => {
    const { order, error } = worker;
    return [
      String(worker.pid),
      order.cookie,
      worker.launchedAt.toISOString(),
      String(order.roleOid),
      String(order.queueBytes),
      worker.state,
      cutText(worker.sqlPreview, PREVIEW_BYTES, encoding),
      error === undefined ? null : abbreviate(error.message, ERROR_BYTES, encoding),
      'f', // a result that was consumed has no row any more
    ];
  });
  return Array.from({ length: 9 }, (_, column) =>
    arrayLiteral(rows.map((row) => row[column] ?? null)),
  );
}
