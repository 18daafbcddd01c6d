import type { Context, RootHookObject } from 'mocha';
import { writeFileSync } from 'node:fs';
import { stopSharedServer } from './server.ts';

/** What became of a test, for documents that are made from it. */
export interface TestResult {
  /** The titles of its suites, outermost first, and its own. */
  readonly path: readonly string[];
  readonly hasPassed: boolean;
}

const results: TestResult[] = [];

export const mochaHooks: RootHookObject = {
  afterEach(this: Context) {
    const test = this.currentTest;
    // Skipped: nothing is known of it.
    if (test === undefined || test.isPending()) return;
    results.push({ path: test.titlePath(), hasPassed: test.state === 'passed' });
  },
};

export async function mochaGlobalTeardown(): Promise<void> {
  await stopSharedServer();
  const file = process.env['PGBG_TEST_RESULTS'];
  if (file !== undefined) writeFileSync(file, JSON.stringify(results));
}
