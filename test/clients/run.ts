import {
  clients,
  installClients,
  namedVersions,
  OWN_VERSION,
  report,
  runVersion,
  serverTools,
  VERSIONS,
} from '../versions/suites.ts';
import { serverTool, toolVersion } from './requirements.ts';

/**
 * Runs the clients on the versions that are named: `npm run test:clients -- 14 15`. Without names, on
 * the version that the proxy embeds, and PostgreSQL's own programs on the newest that they accept.
 */
const named = namedVersions();
const failures = [...(await installClients())];
for (const version of named.length > 0 ? named : [OWN_VERSION]) {
  failures.push(...(await runVersion(version, [clients])));
}
if (named.length === 0) {
  const newest = toolVersion(serverTool('pg_dump').program);
  const accepted = VERSIONS.filter((version) => Number(version) <= newest).at(-1);
  if (accepted !== undefined && accepted !== OWN_VERSION) {
    failures.push(...(await runVersion(accepted, [serverTools])));
  }
}
report(failures);
