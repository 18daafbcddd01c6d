import { expect } from 'chai';
import { fileURLToPath } from 'node:url';
import { runProgram } from '../support/program.ts';
import type { TestProxy } from '../support/proxy.ts';
import { PROGRAM_TIMEOUT_MS } from './client-suite.ts';

/** Where the programs are, and the packages of those in JavaScript. */
export const programs = (file: string) =>
  fileURLToPath(new URL(`../../../test/clients/${file}`, import.meta.url));

/** What starts a client's program. */
export type Command = readonly [program: string, ...parameters: string[]];

/**
 * A test for each feature of a client's program, which is given a connection string and the feature's
 * name, and prints what it has seen as JSON.
 */
export function itDoes(
  proxy: () => TestProxy,
  command: () => Command,
  features: Readonly<Record<string, unknown>>,
): void {
  for (const [feature, expected] of Object.entries(features)) {
    it(feature, async () => {
      expect(await seenBy(command(), proxy().url(), feature)).to.deep.equal(expected);
    });
  }
}

/** What a client's program has seen of one feature. */
export async function seenBy(
  [program, ...parameters]: Command,
  url: string,
  feature: string,
): Promise<unknown> {
  const { stdout, stderr, code } = await runProgram(program, [...parameters, url, feature], {
    timeoutMs: PROGRAM_TIMEOUT_MS,
  });
  expect(code, `the program said: ${stdout}${stderr}`).to.equal(0);
  return JSON.parse(stdout);
}
