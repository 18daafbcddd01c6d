import { randomUUID } from 'node:crypto';
import { BackgroundSession } from './background-session.ts';
import { CALLBACK_SQLSTATE } from './callback.ts';
import type { Credential } from './credential.ts';
import { toDatabaseText, type DatabaseText } from './errors.ts';
import type { CallbackHook, SessionMarks } from './callback-hook.ts';
import { Login } from './login.ts';
import type { SessionWait } from './peers.ts';
import { RaisedReports } from './report-cleaner.ts';
import { customSettingsOf, MisplacedDefaults, namesGivenIn } from './session-defaults.ts';
import type { SessionEvents } from './session-events.ts';
import { SessionLogins, type HeldLogin } from './session-logins.ts';
import type { EngineSettings } from './settings.ts';
import { SpoolBudget } from './spool-budget.ts';
import { WaitGraph } from './wait-graph.ts';
import type { Worker } from './worker.ts';

/** A session that the proxy has opened for a client, and the parameter that marks it. */
export interface OpenedSession {
  readonly session: BackgroundSession;
  /** To be added to the startup packet: tell the functions that the proxy listens. */
  readonly parameters: readonly StartupParameter[];
  readonly defaults: SessionDefaults;
  /** The server has accepted the session with this: background connections log in with it, too. */
  accepted(credential: Credential | undefined): void;
  /** Ends the session; settles when nothing of it is left but workers that go on. */
  close(): Promise<void>;
}

/** The settings that the API has and the server does not know, for one session. */
export interface SessionDefaults {
  /** What is known to be in nobody's way: startup parameters too. */
  parameters(): readonly StartupParameter[];
  /** Whether MAY_BE_MISPLACED need not be asked. */
  isClear(): boolean;
  /** It was asked, and gave nothing. */
  clear(): void;
  /** MISPLACED_DEFAULTS was asked, and gave these names. */
  note(names: readonly string[]): void;
}

/** A name and its value, as a startup packet carries them. */
export type StartupParameter = readonly [name: string, value: string];

interface LoginUse {
  readonly login: Login;
  holders: number;
}

/** Runs background SQL for the sessions of one server. The proxy owns it and closes it. */
export class BackgroundEngine {
  readonly #settings: EngineSettings;
  readonly #budget: SpoolBudget;
  readonly #waits: WaitGraph;
  readonly #logins = new Map<string, LoginUse>();
  readonly #running = new Set<Worker>();
  readonly #misplaced = new MisplacedDefaults();

  constructor(settings: EngineSettings) {
    this.#settings = settings;
    const { maxResultBytes, maxTotalResultBytes, peers } = settings;
    this.#budget = new SpoolBudget(maxResultBytes, maxTotalResultBytes, peers.resultBytes);
    this.#waits = new WaitGraph(() => peers.waits());
  }

  /**
   * Announces a client session, by its startup parameters. Nothing is opened at the server before it
   * calls a function.
   */
  openSession(client: ReadonlyMap<string, string>, events: SessionEvents): OpenedSession {
    const role = client.get('user') ?? '';
    const database = client.get('database') || role;
    const key = keyOf(role, database);
    const { login, release } = this.#hold(key, role, database);
    const [token, seal] = [randomUUID(), randomUUID()];
    const session = this.#newSession(login, { token, seal }, events);
    const given = namesGivenIn(client);
    const custom = new Set([...customSettingsOf(client), ...this.#settings.customSettings]);
    let closing: Promise<void> | undefined;
    return {
      session,
      parameters: [
        ['pgbg_proxy.session', token],
        ['pgbg_proxy.seal', seal],
        ...login.linkParameters,
        ...(custom.size > 0
          ? [['pgbg_proxy.custom_settings', [...custom].join(',')] as const]
          : []),
      ],
      defaults: {
        parameters: () => this.#misplaced.defaultsFor(key, (name) => given.has(name)),
        isClear: () => this.#misplaced.isClear(key, database),
        clear: () => this.#misplaced.clear(key, database),
        note: (names) => this.#misplaced.note(key, names),
      },
      accepted: (credential) => {
        login.useCredential(credential);
        if (credential !== undefined) this.#settings.peers.accepted(role, database, credential);
      },
      close: () =>
        (closing ??= (async () => {
          await session.close();
          await release();
        })()),
    };
  }

  /** A session may have changed what roles and databases set, see ALTER ROLE, or what is installed. */
  doubt({ tellPeers = true } = {}): void {
    if (tellPeers) this.#settings.peers.doubt();
    this.#misplaced.doubt();
    for (const { login } of this.#logins.values()) login.doubt();
  }

  /**
   * Somebody wants a database for himself (DROP DATABASE, or CREATE DATABASE from it as a template; the
   * server gives others five seconds to leave): closes all connections that nobody uses right now.
   * In those seconds the peers do so too, so nobody waits for them.
   */
  makeWay({ tellPeers = true } = {}): void {
    if (tellPeers) this.#settings.peers.makeWay();
    for (const { login } of this.#logins.values()) login.makeWay();
  }

  /** A peer has learnt a credential of this role and database; without sessions of theirs it is not kept. */
  useCredential(role: string, database: string, credential: Credential): void {
    this.#logins.get(keyOf(role, database))?.login.useCredential(credential);
  }

  /** Which of its sessions wait for workers. */
  get waits(): readonly SessionWait[] {
    return this.#waits.waits;
  }

  /** How many workers run their SQL right now. */
  get runningWorkers(): number {
    return this.#running.size;
  }

  /**
   * Waits for workers that still run, within the shutdown time and until the matter is urgent, and
   * closes every connection.
   */
  async close(urgent?: AbortSignal): Promise<void> {
    const { shutdownTimeoutMs, logger } = this.#settings;
    if (this.#running.size > 0) {
      logger.info({ workers: this.#running.size }, 'waiting for background workers');
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, shutdownTimeoutMs);
        if (urgent?.aborted) resolve();
        urgent?.addEventListener('abort', () => resolve());
      });
      await Promise.race([Promise.all([...this.#running].map((worker) => worker.released)), late]);
      clearTimeout(timer);
    }
    await Promise.all([...this.#running].map((worker) => worker.stop()));
    await Promise.all([...this.#logins.values()].map(({ login }) => login.close()));
  }

  /** The login of a (role, database), which is closed when the last of its holders has let go. */
  #hold(key: string, role: string, database: string): HeldLogin {
    const use = this.#logins.get(key) ?? { login: this.#newLogin(role, database), holders: 0 };
    this.#logins.set(key, use);
    use.holders++;
    return {
      login: use.login,
      release: async () => {
        if (--use.holders > 0) return;
        if (this.#logins.get(key) === use) this.#logins.delete(key);
        await use.login.close();
      },
    };
  }

  /** The same with a stored credential: never shared with sessions that have brought their own. */
  #holdRunAs(database: string, role: DatabaseText): HeldLogin | undefined {
    const credential = this.#settings.runAs(database, role);
    if (credential === undefined) return undefined;
    const name = Buffer.from(role, 'latin1').toString('utf8');
    const held = this.#hold(`run as\0${role}\0${toDatabaseText(database)}`, name, database);
    held.login.useCredential(credential, true);
    return held;
  }

  #newLogin(role: string, database: string): Login {
    const login: Login = new Login(
      { server: this.#settings.server, role, database },
      this.#settings,
      () => this.#workerHook(login),
    );
    return login;
  }

  #newSession(login: Login, marks: SessionMarks, events: SessionEvents): BackgroundSession {
    const { database } = login.target;
    return new BackgroundSession(
      new SessionLogins(login, (role) => this.#holdRunAs(database, role)),
      this.#settings,
      this.#budget,
      this.#waits,
      marks,
      events,
      (worker) => this.#follow(worker),
    );
  }

  #follow(worker: Worker): void {
    this.#running.add(worker);
    void worker.released.then(() => this.#running.delete(worker));
  }

  /** A worker's connection is itself a session: its SQL may launch workers, and it reports progress. */
  #workerHook(login: Login): CallbackHook {
    const marks = { token: `worker:${randomUUID()}`, seal: randomUUID() };
    const raised = new RaisedReports();
    const events: SessionEvents = {
      replacementBegan: () => {},
      tagReplaced: () => {},
      errorRaised: (error, pid) => raised.errorRaised(error, pid),
      noticesRaised: (notices, pid) => raised.noticesRaised(notices, pid),
      unanswered: (reason) => raised.unanswered(reason),
      canRepeat: () => false,
      plainPlace: () => undefined,
      stream: () => undefined,
      repeat: () => {},
    };
    const session = this.#newSession(login, marks, events);
    return {
      marks,
      attach: (connection) => {
        session.pid = connection.pid;
        session.ownWorker = () =>
          [...this.#running].find((worker) => worker.connection === connection && !worker.hasEnded);
        connection.onReady = () => {
          raised.statementEnded();
          session.statementEnded();
        };
        connection.cleanReport = (frame) => raised.clean(frame, { sharesEncoding: true });
        connection.onNotice = (notice) => {
          if (notice.code === CALLBACK_SQLSTATE) session.receive(notice.message);
        };
        void connection.closed.then(() => session.close());
      },
      // What this job's SQL has launched goes on, and is none of the next job's business.
      reset: () => session.forgetWorkers(),
    };
  }
}

function keyOf(role: string, database: string): string {
  return `${role}\0${database}`;
}
