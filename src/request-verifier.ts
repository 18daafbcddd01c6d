import { randomUUID } from 'node:crypto';
import type { Verb } from './api.ts';
import { privilegeIndex, type SignedContext } from './callback.ts';
import type { ControlLink } from './control-link.ts';
import { BackgroundError } from './errors.ts';
import {
  isGrantToken,
  isSignedWith,
  newKeyMaterial,
  signingKey,
  type KeyMaterial,
} from './signing-key.ts';

/** A request that is not what it says, or of somebody who may not: it gets no answer. */
export class Unverified extends Error {}

/** A request as it came, before anything of it is believed. */
export interface SignedRequest {
  readonly context: SignedContext;
  readonly payload: string;
  readonly mac: string;
}

/** Decides for one session whose requests are genuine, and hands out keys to installing blocks. */
export class RequestVerifier {
  readonly #secret: Buffer;
  readonly #token: string;
  /** Tokens of the statements that were replaced in this session. */
  readonly #grantTokens = new Set<string>();
  readonly #issuedKeys = new Set<string>();
  #lastNumber = 0;

  constructor(secret: Buffer, token: string) {
    this.#secret = secret;
    this.#token = token;
  }

  /** A token for a statement that is put in the place of CREATE or DROP EXTENSION in this session. */
  newGrantToken(): string {
    const token = randomUUID();
    this.#grantTokens.add(token);
    return token;
  }

  /** Whether a block was written by this session's proxy, or by the holder of the secret. */
  isGranted(token: string): boolean {
    return this.#grantTokens.has(token) || isGrantToken(this.#secret, token);
  }

  /**
   * A new key for the database of a link. Until the installing transaction commits it is good for
   * nothing, or, when the block is of this session, for requests of this session.
   */
  issueKey(link: ControlLink, grantToken: string): KeyMaterial {
    const material = newKeyMaterial(this.#secret, link.identity);
    if (this.#grantTokens.has(grantToken)) this.#issuedKeys.add(material.keyId);
    return material;
  }

  /**
   * Settles when a request is of this session and backend, new, signed with the key that is in force
   * in this database, and of a role that may do what it asks for.
   * @throws Unverified, or BackgroundError 55000 when the key was made for another database
   */
  async verify(link: ControlLink, request: SignedRequest, verb: Verb, pid: number): Promise<void> {
    const { context, payload, mac } = request;
    if (context.token !== this.#token) throw new Unverified('a request of another session');
    if (context.pid !== pid) throw new Unverified('a request of another backend');
    if (!(await this.#isInForce(context.keyId, link))) {
      throw new Unverified('a request signed with a foreign key');
    }
    const key = signingKey(this.#secret, context.keyId, link.identity);
    if (!isSignedWith(key, context.text, payload, mac)) {
      // A clone, a restored dump, or a proxy with another secret: told, for users can mend it.
      throw new BackgroundError(
        '55000',
        'pg_background was installed for another database or proxy',
        {
          hint: 'Run DROP EXTENSION pg_background and CREATE EXTENSION pg_background to renew its key; all proxies of a server need the same secret.',
        },
      );
    }
    if (context.privileges[privilegeIndex(verb)] !== 't') {
      throw new Unverified('a request without the privilege');
    }
    // Last, and with nothing to wait for in between: of two copies only one gets through.
    if (!(context.number > this.#lastNumber)) {
      throw new Unverified('a request that is not newer than the last');
    }
    this.#lastNumber = context.number;
  }

  /** The committed key counts, or, as long as there is none, one that this session is installing. */
  async #isInForce(keyId: string, link: ControlLink): Promise<boolean> {
    if (keyId === link.installedKey) return true;
    const installed = await link.readInstalledKey();
    return keyId === installed || (installed === undefined && this.#issuedKeys.has(keyId));
  }
}
