import { BackendConnection, type LoginTarget } from './backend-connection.ts';
import type { CallbackHook } from './callback-hook.ts';
import { ConnectionPool, type PooledConnection, type PoolOwner } from './connection-pool.ts';
import { ControlLink } from './control-link.ts';
import { OWN_ROLE_OID } from './control-link-sql.ts';
import type { Credential } from './credential.ts';
import { BackgroundError, reportFieldsOf, ServerError } from './errors.ts';
import { sessionDefaults } from './session-defaults.ts';
import { IDLE_SESSION_TIMEOUT, readBaseline } from './session-settings.ts';
import type { EngineSettings } from './settings.ts';

/**
 * All that the engine holds for one (role, database): the control link, opened before anything else,
 * and a pool of connections for workers. Nothing is opened before the first call; everything is
 * closed when the last session is gone.
 */
export class Login {
  readonly target: LoginTarget;
  readonly #settings: EngineSettings;
  readonly #hook: () => CallbackHook;
  #credential: Credential | undefined;
  #isStored = false;
  #link: Promise<ControlLink> | undefined;
  #linkPid: number | undefined;
  /** The database's, as the last connection has said. */
  #encoding = 'SQL_ASCII';
  readonly #pool: ConnectionPool;
  #borrowed = 0;
  /** Calls that may use the control link. */
  #calls = 0;
  /** Whether the control link is to be closed as soon as nobody uses it. */
  #isMakingWay = false;
  #isClosed = false;
  #hasPurged = false;

  constructor(target: LoginTarget, settings: EngineSettings, hook: () => CallbackHook) {
    this.target = target;
    this.#settings = settings;
    this.#hook = hook;
    this.#pool = new ConnectionPool(settings, () => this.#open());
  }

  /**
   * What the server has just accepted for this role, or the operator has stored: used from now on, in
   * place of what was before.
   */
  useCredential(credential: Credential | undefined, isStored = false): void {
    this.#isStored = isStored;
    // The same again has perhaps been prepared already.
    if (credential !== undefined && this.#credential?.isSameAs(credential)) return;
    this.#credential = credential;
  }

  /** What is installed may have been changed. */
  doubt(): void {
    void this.#link?.then((link) => link.installed.doubt()).catch(() => {});
  }

  /** The control link, opened on first use and again when it was lost. */
  controlLink(): Promise<ControlLink> {
    if (this.#isClosed && this.#borrowed === 0) {
      return Promise.reject(new BackgroundError('08006', 'the last session has ended'));
    }
    if (this.#link === undefined) {
      const { serverConnectTimeoutMs, trustedOwners } = this.#settings;
      const opening = ControlLink.open(
        this.target,
        this.#credential,
        trustedOwners,
        serverConnectTimeoutMs,
      ).catch((error: unknown) => explainRefusal(error, this.#isStored));
      const forget = () => {
        if (this.#link !== opening) return;
        this.#link = undefined;
        this.#linkPid = undefined;
      };
      opening.then((link) => {
        if (this.#link === opening) this.#linkPid = link.pid;
        this.#encoding = link.encoding;
        return link.closed.then(forget);
      }, forget);
      this.#link = opening;
    }
    return this.#link;
  }

  /** Tells functions where they find their answers, if that is known: else they look at all backends. */
  get linkParameters(): readonly (readonly [string, string])[] {
    return this.#linkPid === undefined
      ? []
      : [['pgbg_proxy.control_pid', String(this.#linkPid)] as const];
  }

  /** Counts a call while it is under way: it may use the control link at any time. */
  async during<T>(call: Promise<T>): Promise<T> {
    this.#calls++;
    try {
      return await call;
    } finally {
      this.#calls--;
      this.#leaveIfFree();
    }
  }

  /**
   * Closes what nobody uses, for somebody may want the database for himself: idle connections at once,
   * and the control link and what is lent now as soon as they are free. The next call opens them again.
   */
  makeWay(): void {
    this.#isMakingWay = true;
    void this.#pool.clear();
    this.#leaveIfFree();
  }

  #leaveIfFree(): void {
    if (!this.#isMakingWay || this.#calls > 0 || this.#borrowed > 0) return;
    this.#isMakingWay = false;
    const link = this.#link;
    this.#link = undefined;
    this.#linkPid = undefined;
    void link?.then((opened) => opened.close()).catch(() => {});
  }

  /** A connection that no other session has used; the caller gives it back or retires it. */
  async borrow(
    owner: PoolOwner,
    isUsable: (pid: number) => boolean = () => true,
  ): Promise<PooledConnection> {
    this.#borrowed++;
    try {
      return await this.#pool.take(owner, isUsable);
    } catch (error) {
      await this.#returned();
      throw error;
    }
  }

  /** Takes back a connection whose job left nothing that DISCARD ALL does not remove. */
  async giveBack(pooled: PooledConnection): Promise<void> {
    await this.#pool.putBack(pooled);
    await this.#returned();
  }

  /** Closes a connection that cannot be used again. */
  async retire(pooled: PooledConnection): Promise<void> {
    await pooled.connection.close();
    await this.#returned();
  }

  async #returned(): Promise<void> {
    this.#borrowed--;
    this.#leaveIfFree();
    await this.#closeUnusedLink();
  }

  /** Closes what a session that ends has used. */
  forget(owner: PoolOwner): Promise<void> {
    return this.#pool.forget(owner);
  }

  /** True once: whether the caller is to remove what proxies that are gone have left in this database. */
  takesFirstPurge(): boolean {
    const isFirst = !this.#hasPurged;
    this.#hasPurged = true;
    return isFirst;
  }

  /**
   * Closes what is idle. Workers may go on: their connections are closed when they come back, and
   * the control link, which their SQL may need, with the last of them.
   */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#pool.close();
    await this.#closeUnusedLink();
  }

  async #closeUnusedLink(): Promise<void> {
    if (!this.#isClosed || this.#borrowed > 0) return;
    const link = await this.#link?.catch(() => undefined);
    await link?.close();
    this.#credential = undefined;
  }

  async #open(): Promise<PooledConnection> {
    const hook = this.#hook();
    const borrowedAt = Date.now();
    const connection = await this.#connect(hook).catch((error: unknown) =>
      explainRefusal(error, this.#isStored),
    );
    try {
      hook.attach(connection);
      const [baseline, [[roleOid] = []]] = await connection.answersWithin(
        this.#settings.serverConnectTimeoutMs,
        Promise.all([readBaseline(connection), connection.query(`SELECT ${OWN_ROLE_OID}`)]),
      );
      return {
        connection,
        baseline,
        asked: [],
        settings: [],
        roleOid: Number(roleOid),
        openedAt: Date.now(),
        borrowedAt,
        idleSince: 0,
        wasIdle: false,
        owner: undefined,
        hook,
      };
    } catch (error) {
      await connection.close();
      throw error;
    }
  }

  /** Logs in with the database's encoding: RESET ALL and DISCARD ALL lead back to it. */
  async #connect(hook: CallbackHook): Promise<BackendConnection> {
    const { customSettings, serverConnectTimeoutMs } = this.#settings;
    for (;;) {
      const encoding = this.#encoding;
      const connection = await BackendConnection.open(
        this.target,
        this.#credential,
        {
          client_encoding: encoding,
          application_name: 'pg-background-proxy worker',
          'pgbg_proxy.session': hook.marks.token,
          'pgbg_proxy.seal': hook.marks.seal,
          // Whatever the role has set: the pool knows itself how long a connection may wait.
          [IDLE_SESSION_TIMEOUT]: '0',
          ...Object.fromEntries([...sessionDefaults, ...this.linkParameters]),
          ...(customSettings.length > 0 && {
            'pgbg_proxy.custom_settings': customSettings.join(','),
          }),
        },
        serverConnectTimeoutMs,
      );
      this.#encoding = connection.parameters.get('server_encoding') ?? encoding;
      if (this.#encoding === encoding) return connection;
      // It was not known yet, or the database is another of the same name.
      await connection.close();
    }
  }
}

/** The server does not let the role in any more: its own words, and what that may mean. */
function explainRefusal(error: unknown, isStored: boolean): never {
  const { code, message } = reportFieldsOf(error);
  // 28P01 of our own: the server's verifier is not the one that our keys were made for any more.
  const hasOtherVerifier = !(error instanceof ServerError) && code === '28P01';
  if (!hasOtherVerifier && !(error instanceof ServerError && code.startsWith('28'))) throw error;
  const hint = isStored
    ? 'The run_as file of the proxy must have the password that this role has now.'
    : hasOtherVerifier
      ? 'The password of this role may have been changed: connect again, when the auth file of the proxy has the new one.'
      : 'The password or token with which this session logged in may have been changed, or have expired: connect again.';
  throw new ServerError({
    severity: 'ERROR',
    code,
    message: 'could not log in a background worker',
    detail: message,
    hint,
  });
}
