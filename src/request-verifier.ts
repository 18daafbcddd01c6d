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
  type DatabaseIdentity,
  type KeyMaterial,
} from './signing-key.ts';

/** A request that is not what it says, or of somebody who may not: it gets no answer. */
export class Unverified extends Error {}

/**
 * A request of which only the signature is wrong: by a forger, or in a clone, in a restored dump or by
 * a proxy with another secret, which its user can mend.
 */
export class WrongSignature extends BackgroundError {
  constructor() {
    super('55000', 'pg_background was installed for another database or proxy', {
      hint: 'Run ALTER EXTENSION pg_background UPDATE to renew its key; all proxies of a server need the same secret.',
    });
  }
}

/** A request as it came, before anything of it is believed. */
export interface SignedRequest {
  readonly context: SignedContext;
  readonly signed: string;
  readonly mac: string;
}

/** Decides for one session whose requests are genuine, and hands out keys to installing blocks. */
export class RequestVerifier {
  readonly #secret: Buffer;
  readonly #token: string;
  readonly #lifetimeMs: number;
  /** Tokens of the statements that were replaced in this session. */
  readonly #grantTokens = new Set<string>();
  /** Keys that blocks of this session were given, and the key that was in force then. */
  readonly #issuedKeys = new Map<string, string | undefined>();
  #lastNumber = 0;
  /** The last key that was needed, and for what. */
  #key: { keyId: string; identity: DatabaseIdentity; key: Buffer } | undefined;

  /** @param lifetimeMs how long after its signature a request is worth something */
  constructor(secret: Buffer, token: string, lifetimeMs: number) {
    this.#secret = secret;
    this.#token = token;
    this.#lifetimeMs = lifetimeMs;
  }

  /** A token for a statement that is put in the place of CREATE, ALTER or DROP EXTENSION in this session. */
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
   * A new key for the database of a link. Until the installing transaction commits, it is good for
   * requests of this session, when the block is of this session, and of a role that could replace
   * what is installed anyway.
   */
  async issueKey(link: ControlLink, grantToken: string): Promise<KeyMaterial> {
    const material = newKeyMaterial(this.#secret, link.identity);
    const installed = await link.installed.read();
    if (this.#grantTokens.has(grantToken) && (installed === undefined || installed.isOurs)) {
      this.#issuedKeys.set(material.keyId, installed?.keyId);
    }
    return material;
  }

  /**
   * Whether a request may be looked at: of this session and backend, and signed with a key that may
   * be in force. Nothing of its payload is needed for that.
   * @throws Unverified
   */
  async admit(
    { token, pid, keyId }: SignedContext,
    link: ControlLink,
    ownPid: number,
  ): Promise<void> {
    if (token !== this.#token) throw new Unverified('a request of another session');
    if (pid !== ownPid) throw new Unverified('a request of another backend');
    if (keyId === (await link.installed.current())?.keyId) return;
    const installed = (await link.installed.read())?.keyId;
    // The committed key counts, or one that this session is installing, until another is committed.
    if (keyId === installed) return;
    if (this.#issuedKeys.has(keyId) && this.#issuedKeys.get(keyId) === installed) return;
    throw new Unverified('a request signed with a foreign key');
  }

  /**
   * Whether an admitted request is genuine and new, and its role may do what it asks for. Nothing is
   * waited for: of two copies only one gets through.
   * @throws Unverified, or BackgroundError when the user can mend what is wrong
   */
  verify({ context, signed, mac }: SignedRequest, link: ControlLink): void {
    if (!isSignedWith(this.#keyFor(context.keyId, link), context.text, signed, mac))
      throw new WrongSignature();
    // Privileges are as they were when it was signed.
    if (link.clock.ageOf(context.number) > this.#lifetimeMs)
      throw new Unverified('a request that was signed too long ago');
    if (!(context.number > this.#lastNumber)) {
      throw new Unverified('a request that is not newer than the last');
    }
    this.#lastNumber = context.number;
    link.installed.checkOwner();
  }

  /** Derived once: a session's database has one key, which rarely changes. */
  #keyFor(keyId: string, { identity }: ControlLink): Buffer {
    const known = this.#key;
    if (known?.keyId === keyId && known.identity === identity) return known.key;
    const key = signingKey(this.#secret, keyId, identity);
    this.#key = { keyId, identity, key };
    return key;
  }

  /** @throws Unverified when the signing role may not execute this function */
  checkPrivilege(context: SignedContext, verb: Verb): void {
    if (context.privileges[privilegeIndex(verb)] !== 't') {
      throw new Unverified('a request without the privilege');
    }
  }
}
