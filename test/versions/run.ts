import { fileURLToPath } from 'node:url';
import { writeCompatibility } from './compatibility.ts';
import {
  clients,
  conformance,
  differential,
  installClients,
  namedVersions,
  report,
  runVersion,
  security,
  VERSIONS,
} from './suites.ts';

/**
 * Runs the conformance suite, the attacks and the comparison with the server itself on each version
 * that PostgreSQL supports, or on those that are named, one after the other: `npm run test:versions --
 * 14 17`. All of them run, whatever fails. Without names the clients run too, which have a command of their own; and when all versions
 * have run, docs/compatibility.md is written from what conforms, and from what clients do.
 */
const named = namedVersions();
const isWhole = named.length === 0;
const failures = isWhole ? [...(await installClients())] : [];
for (const version of isWhole ? VERSIONS : named) {
  const suites = [conformance, security, differential, ...(isWhole ? [clients] : [])];
  failures.push(...(await runVersion(version, suites)));
}
if (isWhole) {
  writeCompatibility(
    fileURLToPath(new URL('../../../docs/compatibility.md', import.meta.url)),
    VERSIONS.map((version) => ({
      version,
      conformance: conformance.results(version),
      clients: clients.results(version),
    })),
  );
}
report(failures);
