import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import type { TestResult } from '../support/root-hooks.ts';

/** The results of one version, in files as runs of the suites have left them. */
export interface VersionResults {
  readonly version: string;
  readonly conformance: string;
  /** May be missing: then nothing is known of clients on that version. */
  readonly clients: string;
}

/** The suite whose cells are function and position. */
const POSITIONS = 'in every position';

const HEAD = `# Compatibility

Made from the results of \`npm run test:versions\`, which runs the conformance suite (\`test/conformance\`) and the clients
(\`test/clients\`) on PostgreSQL 14 to 18. Do not edit: run it again.
`;

/** Writes what the results of all versions show, as a document. */
export function writeCompatibility(document: string, versions: readonly VersionResults[]): void {
  const facts = versions.map(({ version, conformance }) => ({ version, tests: read(conformance) }));
  const clients = versions
    .filter((results) => existsSync(results.clients))
    .map((results) => ({ version: results.version, tests: read(results.clients) }));
  writeFileSync(
    document,
    [HEAD, topicTable(facts), positionTable(facts), clientTable(clients)].join('\n'),
  );
}

function read(file: string): TestResult[] {
  return JSON.parse(readFileSync(file, 'utf8')) as TestResult[];
}

type Results = readonly { readonly version: string; readonly tests: readonly TestResult[] }[];

/** A row for each topic of the suite: how many of its facts hold, by version. */
function topicTable(results: Results): string {
  const topics = distinct(results.flatMap(({ tests }) => tests.map(({ path }) => path[0] ?? '')));
  const rows = topics
    .filter((topic) => topic !== POSITIONS)
    .map((topic) => [
      topic,
      ...results.map(({ tests }) => {
        const own = tests.filter(({ path }) => path[0] === topic);
        const passed = own.filter(({ hasPassed }) => hasPassed).length;
        return passed === own.length ? String(passed) : `${passed} of ${own.length}`;
      }),
    ]);
  return `## Facts that hold

How many tests of each topic pass. They differ where a version has more of something to test.

${table(['Topic', ...results.map(({ version }) => version)], rows)}`;
}

/** A row for each position in which a call can stand, a column for each function: versions that pass. */
function positionTable(results: Results): string {
  const cells = results.flatMap(({ version, tests }) =>
    tests
      .filter(({ path }) => path[0] === POSITIONS)
      .map(({ path, hasPassed }) => ({
        version,
        position: path.slice(1, -1).join(', '),
        name: path.at(-1) ?? '',
        hasPassed,
      })),
  );
  const names = distinct(cells.map(({ name }) => name));
  const rows = distinct(cells.map(({ position }) => position)).map((position) => [
    position,
    ...names.map((name) => {
      const own = cells.filter((cell) => cell.position === position && cell.name === name);
      if (own.length === 0) return '';
      const passed = own.filter(({ hasPassed }) => hasPassed).map(({ version }) => version);
      return range(passed) || 'no';
    }),
  ]);
  const short = names.map((name) => name.replace(/^pg_background_/, ''));
  return `## Where a call can stand

Versions on which the function does its work in this position, gives what it promises, and leaves the session usable. A cell
is empty where the two make no sense together.

${table(['Position', ...short], rows)}`;
}

/** A row for each client and feature: versions that pass. */
function clientTable(results: Results): string {
  const cells = results.flatMap(({ version, tests }) =>
    tests.map(({ path, hasPassed }) => ({
      version,
      client: path[1] ?? '',
      feature: path.slice(2).join(', '),
      hasPassed,
    })),
  );
  const rows = distinct(cells.map(({ client }) => client)).flatMap((client) => {
    const own = cells.filter((cell) => cell.client === client);
    return distinct(own.map(({ feature }) => feature)).map((feature) => {
      const passed = own.filter((cell) => cell.feature === feature && cell.hasPassed);
      return [client, feature, range(passed.map(({ version }) => version)) || 'no'];
    });
  });
  return `## Clients

Versions on which a real client does through the proxy what it does without it, only its connection string changed, and
launches workers. PostgreSQL's own programs, but for psql, refuse servers that are newer than they are: those that ran here
have seen the versions that are named.

${table(['Client', 'Feature', 'Versions'], rows)}`;
}

/** Versions that follow each other as from–to. */
function range(versions: readonly string[]): string {
  const [first, ...others] = versions;
  const isWhole = versions.every((version, i) => Number(version) === Number(first) + i);
  return isWhole && others.length > 0 ? `${first}–${others.at(-1)}` : versions.join(', ');
}

function distinct(values: readonly string[]): string[] {
  return [...new Set(values)];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |\n`;
  return [line(head), `|${' --- |'.repeat(head.length)}\n`, ...rows.map(line)].join('');
}
