import type { PooledConnection, PoolOwner } from './connection-pool.ts';
import { RoleRenamed, type DatabaseText } from './errors.ts';
import type { Login } from './login.ts';
import {
  areSameSettings,
  customToReplay,
  replay,
  settingsToReplay,
  type Setting,
} from './session-settings.ts';
import type { WorkerOrder } from './worker-order.ts';

/** How long the server may take to set what the session has set: a frozen one must not hold up its end. */
const REPLAY_TIMEOUT_MS = 10_000;

/** Borrows a connection and puts the settings and the role of an order on it. The caller gives it back or retires it. */
export async function borrowFor(
  { settings, custom, role, loginOid, timeoutMs }: WorkerOrder,
  login: Login,
  owner: PoolOwner,
  isFreePid: (pid: number) => boolean,
): Promise<PooledConnection> {
  for (;;) {
    const pooled = await login.borrow(owner, isFreePid);
    try {
      if (pooled.roleOid !== loginOid) throw new RoleRenamed();
      const changes = settingsToReplay(pooled.baseline, settings);
      // worker_timeout limits the whole text in place of the session's statement_timeout.
      const limits: Setting[] = timeoutMs > 0 ? [['statement_timeout', '0']] : [];
      await putOn(pooled, [...changes, ...limits, ...customToReplay(custom)], role);
      return pooled;
    } catch (error) {
      const wasLost = pooled.connection.isClosed;
      await login.retire(pooled);
      // One that died in the pool: the next one serves.
      if (!wasLost || !pooled.wasIdle) throw error;
    }
  }
}

/** Settings and role. Mostly there is nothing to do: the session's last job has had the same. */
async function putOn(
  pooled: PooledConnection,
  asked: readonly Setting[],
  role: DatabaseText | undefined,
): Promise<void> {
  if (role === undefined && areSameSettings(asked, pooled.asked)) return;
  pooled.settings = await pooled.connection.answersWithin(
    REPLAY_TIMEOUT_MS,
    replay(pooled.connection, asked, role, pooled.asked.length > 0),
  );
  pooled.asked = asked;
}
