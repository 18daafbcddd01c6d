import { randomBytes } from 'node:crypto';
import type { Verb } from './api.ts';
import { queueSizeOf } from './call-arguments.ts';
import type { Arguments, SignedContext } from './callback.ts';
import type { PoolOwner } from './connection-pool.ts';
import type { ControlLink } from './control-link.ts';
import { BackgroundError, reportFieldsOf, RoleRenamed } from './errors.ts';
import type { Login } from './login.ts';
import type { Registry } from './registry.ts';
import {
  RememberedSettings,
  signerOf,
  UnchangedSettings,
  type LaunchPlace,
  type SentSettings,
} from './sent-settings.ts';
import type { Caller } from './session-calls.ts';
import type { SessionLogins } from './session-logins.ts';
import { maxWorkers, readSetting, workerTimeout } from './setting-value.ts';
import type { SpoolBudget } from './spool-budget.ts';
import { Worker } from './worker.ts';

/** Starts the workers of one session: as whom, and with which settings. */
export class WorkerLauncher {
  readonly #logins: SessionLogins;
  readonly #budget: SpoolBudget;
  readonly #registry: Registry;
  readonly #owner: PoolOwner;
  readonly #onLaunched: (worker: Worker) => void;
  readonly #remembered = new RememberedSettings();
  readonly #unchanged: UnchangedSettings;

  /** @param registry where workers are kept that were started */
  constructor(
    logins: SessionLogins,
    budget: SpoolBudget,
    registry: Registry,
    owner: PoolOwner,
    unchangedSettingsMs: number,
    onLaunched: (worker: Worker) => void,
  ) {
    this.#unchanged = new UnchangedSettings(unchangedSettingsMs);
    this.#logins = logins;
    this.#budget = budget;
    this.#registry = registry;
    this.#owner = owner;
    this.#onLaunched = onLaunched;
  }

  /**
   * Starts a worker. @throws what the function raises
   * @returns the worker, and whether the next launch may leave its settings out; undefined when the function must
   * send the settings in effect
   */
  async launch(
    verb: Verb,
    args: Arguments,
    caller: Caller,
  ): Promise<{ worker: Worker; isPlain: boolean } | undefined> {
    const { context, link } = caller;
    const queueBytes = queueSizeOf(args);
    const limit = readSetting(maxWorkers, args['maxWorkers']);
    if (this.#registry.counted >= limit) {
      throw new BackgroundError('53400', 'too many background workers', {
        detail: `Current limit is ${limit} concurrent workers per session.`,
        hint: 'Wait for existing workers to complete, or increase pg_background.max_workers.',
      });
    }
    const settings = this.#settingsOf(args, caller);
    if (settings === undefined) return undefined;
    const isPlain = this.#unchanged.note(caller, settings, args['isUnchanged'] !== true);
    if (args['isDirect'] === true) this.#unchanged.confirm(caller);
    const { login, loginOid } = await this.#loginFor(context, link);
    const worker = new Worker(
      login,
      {
        sql: String(args['sql']),
        settings,
        custom: (args['custom'] ?? {}) as Record<string, unknown>,
        role: context.roleOid === loginOid ? undefined : context.role,
        roleOid: context.roleOid,
        loginOid,
        cookie: verb === 'pg_background_launch' ? '0' : newCookie(),
        queueBytes,
        timeoutMs: readSetting(workerTimeout, args['workerTimeout']),
        isSubmitted: verb === 'pg_background_submit_v2',
      },
      this.#budget,
    );
    await worker
      .start(
        this.#owner,
        (pid) => this.#registry.isFreePid(pid),
        () => this.#onLaunched(worker),
      )
      .catch(refuseForConnections);
    // The client may have gone while the worker was started: it goes on, as those before it.
    if (this.#owner.isClosed) await worker.abandon();
    else this.#registry.add(worker);
    return { worker, isPlain };
  }

  /** The functions in a plain statement are ours, see UnchangedSettings. */
  confirm(place: LaunchPlace): void {
    this.#unchanged.confirm(place);
  }

  /** What the caller has set; undefined when its function must send that. */
  #settingsOf(args: Arguments, caller: Caller): SentSettings | undefined {
    const { settings, settingsDigest: digest } = args;
    const sent = typeof settings === 'object' && settings !== null ? settings : undefined;
    if (args['isUnchanged'] === true) return this.#unchanged.find(caller);
    if (typeof digest !== 'string') return (sent ?? {}) as SentSettings;
    const signer = signerOf(caller.context);
    if (sent === undefined) return this.#remembered.find(signer, digest);
    this.#remembered.remember(signer, digest, sent as SentSettings);
    return sent as SentSettings;
  }

  /**
   * Who logs in for a launch. Where the session itself chose the role: the session's login, which takes
   * the role on. Where a function did: that role itself, for RESET ROLE in the SQL would take off any
   * other.
   */
  async #loginFor(
    context: SignedContext,
    { roleOid: ownOid }: ControlLink,
  ): Promise<{ login: Login; loginOid: number }> {
    if (context.roleOid === ownOid || context.kind === 'free')
      return { login: this.#logins.own, loginOid: ownOid };
    const login = this.#logins.runAs(context.role);
    if (login === undefined) {
      throw new BackgroundError(
        '42501',
        'no credentials to launch a background worker as this role',
        {
          detail:
            'The call stands in a SECURITY DEFINER function or a restricted operation, and the role there is not the one that logged in.',
          hint: 'Call pg_background from a SECURITY INVOKER function, or store the password of that role for this database in the run_as file of the proxy.',
        },
      );
    }
    const link = await login.controlLink();
    if (link.roleOid !== context.roleOid) throw new RoleRenamed();
    link.installed.checkOwner();
    return { login, loginOid: context.roleOid };
  }
}

/** Too many connections, of the server or of the role, or no server at all. */
function refuseForConnections(error: unknown): never {
  const { code, message } = reportFieldsOf(error);
  if (code !== '53300' && code !== '08001') throw error;
  throw new BackgroundError('53000', 'could not register background process', {
    detail: message,
    hint: 'You may need to increase max_connections, or the CONNECTION LIMIT of the role or database.',
    cause: error,
  });
}

/** A random int8 that is not 0, as text: it has more digits than a number holds. */
function newCookie(): string {
  const cookie = randomBytes(8).readBigInt64BE();
  return cookie === 0n ? newCookie() : cookie.toString();
}
