import { expect } from 'chai';
import { PSQL_ENVIRONMENT } from '../../support/psql.ts';
import { runProgram } from '../../support/program.ts';
import { PROGRAM_TIMEOUT_MS } from '../client-suite.ts';
import type { Requirement } from '../requirements.ts';

/** Runs a program of PostgreSQL's own, which must end well, and gives what it has printed. */
export async function runTool(
  { program }: Requirement,
  parameters: readonly string[],
): Promise<{ readonly stdout: string; readonly stderr: string }> {
  const { stdout, stderr, code } = await runProgram(program, parameters, {
    environment: PSQL_ENVIRONMENT,
    timeoutMs: PROGRAM_TIMEOUT_MS,
  });
  expect(code, `${program} ${parameters.join(' ')} said: ${stdout}${stderr}`).to.equal(0);
  return { stdout, stderr };
}

/** What is missing of several programs. */
export function missingOf(...requirements: readonly Requirement[]): string | undefined {
  return requirements.find(({ missing }) => missing !== undefined)?.missing;
}
