import { parentPort, workerData } from 'node:worker_threads';
import { BackgroundError } from './errors.ts';
import { vetWorkerSql } from './sql-text.ts';
import type { Verdict } from './sql-vetting.ts';

/** The body of the thread that vets a long text. */
function vet(): Verdict {
  try {
    return { statements: vetWorkerSql(workerData as string) };
  } catch (error) {
    if (!(error instanceof BackgroundError)) throw error;
    return { refusal: { code: error.code, message: error.message } };
  }
}

parentPort?.postMessage(vet());
