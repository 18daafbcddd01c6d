import { createHmac, randomBytes } from 'node:crypto';
import {
  DEFAULT_ITERATIONS,
  parseVerifier,
  type Logger,
  type ScramVerifier,
} from '../src/index.ts';
import type { AuthFile } from './auth-file.ts';
import type { AuthQuery } from './auth-query.ts';
import type { WatchedFiles } from './watched-file.ts';

/** What there is to check a user with. */
export interface KnownUser {
  readonly verifier: ScramVerifier;
  /** Where the list has it in clear text: it logs in wherever the server asks for something else than SCRAM. */
  readonly password: Buffer | undefined;
  /** Whether there is no such user: the exchange is acted out, and fails. */
  readonly isMock: boolean;
}

/** A name longer than that the server would cut off: it would be another's. */
const MAX_NAME_BYTES = 63;

/** As the server makes them. */
const SALT_BYTES = 16;

/** The users of a list and of a query. Whoever asks cannot tell a user that is missing from a wrong password. */
export class Users {
  readonly #file: WatchedFiles<AuthFile> | undefined;
  readonly #query: AuthQuery | undefined;
  readonly #secret: Buffer;
  readonly #logger: Logger;
  /** What the query gave last, for salt and iterations like it. */
  #lastFound: ScramVerifier | undefined;

  /** @param secret makes the salts of missing users: the same at each try, and with each proxy of a server */
  constructor(
    file: WatchedFiles<AuthFile> | undefined,
    query: AuthQuery | undefined,
    secret: Buffer,
    logger: Logger,
  ) {
    this.#file = file;
    this.#query = query;
    this.#secret = secret;
    this.#logger = logger;
  }

  /** @throws BackgroundError when the query fails, for whoever asks */
  async find(user: string): Promise<KnownUser> {
    return (await this.#known(user)) ?? (await this.#mock(user));
  }

  async #known(user: string): Promise<KnownUser | undefined> {
    // What is no UTF-8 is the same to us whatever it is.
    if (user.includes('\ufffd') || Buffer.byteLength(user) > MAX_NAME_BYTES) return undefined;
    const file = await this.#file?.current();
    const listed = file?.get(user);
    if (listed !== undefined) return { ...listed, isMock: false };
    if (file?.has(user) === true) return undefined;
    const secret = await this.#query?.secretOf(user);
    if (secret === undefined) return undefined;
    const verifier = parseVerifier(secret);
    if (verifier !== undefined) {
      this.#lastFound = verifier;
      return { verifier, password: undefined, isMock: false };
    }
    this.#logger.warn(
      { user },
      'auth_query gave a secret that is no SCRAM-SHA-256 verifier: the user is not let in',
    );
    return undefined;
  }

  /** A verifier that looks like those of others. */
  async #mock(user: string): Promise<KnownUser> {
    // Who asks the query stands in the list, in clear text: users look like those of the query.
    const like = this.#lastFound ?? anyVerifier(await this.#file?.current());
    const salt = createHmac('sha512', this.#secret).update(`pgbg mock salt\0${user}`).digest();
    return {
      verifier: {
        salt: salt.subarray(0, Math.min(like?.salt.length ?? SALT_BYTES, salt.length)),
        iterations: like?.iterations ?? DEFAULT_ITERATIONS,
        storedKey: randomBytes(32),
        serverKey: randomBytes(32),
      },
      password: undefined,
      isMock: true,
    };
  }
}

function anyVerifier(file: AuthFile | undefined): ScramVerifier | undefined {
  for (const listed of file?.values() ?? []) if (listed !== undefined) return listed.verifier;
  return undefined;
}
