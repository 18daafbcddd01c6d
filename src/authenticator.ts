import { createHash } from 'node:crypto';
import type { Credential } from './credential.ts';
import { BackgroundError, ProtocolError } from './errors.ts';
import { frameOf } from './messages.ts';
import { SCRAM_MECHANISM, ScramClientExchange, type ScramKeys } from './scram.ts';

/** What an AuthenticationXXX message asks for, by its number. */
const Request = {
  ok: 0,
  cleartextPassword: 3,
  md5Password: 5,
  sasl: 10,
  saslContinue: 11,
  saslFinal: 12,
} as const;

const REQUEST_NAMES: Readonly<Record<number, string>> = {
  2: 'Kerberos V5',
  6: 'SCM credentials',
  7: 'GSSAPI',
  9: 'SSPI',
};

const PASSWORD_MESSAGE = 'p'.charCodeAt(0);

/**
 * Answers what one server asks in one login. It believes no server that has begun SCRAM and not ended
 * it, and gives a password only in the form that was asked for.
 * @see https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP
 */
export class Authenticator {
  readonly #role: string;
  readonly #credential: Credential | undefined;
  #exchange: ScramClientExchange | undefined;
  #isAnswering = false;
  #hasProvedItself = true;
  #wasAsked = false;
  #isAccepted = false;

  constructor(role: string, credential: Credential | undefined) {
    this.#role = role;
    this.#credential = credential;
  }

  /** Whether the server has said AuthenticationOk. */
  get isAccepted(): boolean {
    return this.#isAccepted;
  }

  /** Whether it has asked for a password or a proof of one: else it has verified nothing of it. */
  get wasAsked(): boolean {
    return this.#wasAsked;
  }

  /**
   * Takes an AuthenticationXXX message with its header.
   * @returns the message that answers it, if it wants one; a promise where that takes time
   * @throws BackgroundError 28000 when we have nothing for what it asks, ProtocolError when it cheats
   */
  take(frame: Buffer): Buffer | undefined | Promise<Buffer> {
    if (frame.length < 9) throw new ProtocolError('malformed authentication request of the server');
    if (this.#isAnswering || this.#isAccepted)
      throw new ProtocolError('the server sent an authentication request out of turn');
    const request = frame.readInt32BE(5);
    const body = Buffer.from(frame.subarray(9));
    switch (request) {
      case Request.ok:
        if (!this.#hasProvedItself)
          throw new ProtocolError('the server ended the SCRAM exchange too early');
        this.#isAccepted = true;
        return undefined;
      case Request.cleartextPassword:
        return passwordMessage(this.#password('a cleartext password'));
      case Request.md5Password:
        return passwordMessage(this.#md5(body));
      case Request.sasl:
        return this.#beginScram(body);
      case Request.saslContinue:
        return this.#answerChallenge(body);
      case Request.saslFinal:
        if (this.#exchange?.isGenuine(body) !== true)
          throw new ProtocolError(
            'the server does not know the password: its SCRAM proof is wrong',
          );
        this.#hasProvedItself = true;
        return undefined;
      default:
        throw nothingFor(REQUEST_NAMES[request] ?? `authentication method ${request}`);
    }
  }

  #password(what: string): Buffer {
    if (this.#exchange !== undefined)
      throw new ProtocolError('the server asks for a password in the middle of SCRAM');
    if (this.#credential?.kind !== 'password') throw this.#missing(what);
    this.#wasAsked = true;
    return this.#credential.bytes;
  }

  /** md5(md5(password, role), salt), in hex. */
  #md5(salt: Buffer): Buffer {
    if (salt.length !== 4) throw new ProtocolError('malformed md5 request of the server');
    const inner = createHash('md5').update(this.#password('an md5 password')).update(this.#role);
    const outer = createHash('md5').update(inner.digest('hex')).update(salt);
    return Buffer.from(`md5${outer.digest('hex')}`);
  }

  #beginScram(body: Buffer): Buffer {
    const mechanisms = body.toString('latin1').split('\0');
    if (!mechanisms.includes(SCRAM_MECHANISM))
      throw nothingFor(`SASL mechanism ${mechanisms[0] || 'without a name'}`);
    if (this.#exchange !== undefined)
      throw new ProtocolError('the server began a SCRAM exchange twice');
    const credential = this.#credential;
    if (credential === undefined) throw this.#missing('a password (SCRAM)');
    this.#wasAsked = true;
    this.#hasProvedItself = false;
    this.#exchange = new ScramClientExchange((salt, iterations) =>
      credential.kind === 'password'
        ? credential.keysFor(salt, iterations)
        : Promise.resolve(sameKeys(credential.keys, salt, iterations)),
    );
    const first = this.#exchange.begin();
    const length = Buffer.alloc(4);
    length.writeInt32BE(first.length);
    return frameOf(
      PASSWORD_MESSAGE,
      Buffer.concat([Buffer.from(`${SCRAM_MECHANISM}\0`), length, first]),
    );
  }

  async #answerChallenge(challenge: Buffer): Promise<Buffer> {
    if (this.#exchange === undefined)
      throw new ProtocolError('the server sent a SCRAM challenge out of turn');
    // Until the keys are there nothing else may come.
    this.#isAnswering = true;
    const answer = await this.#exchange.answer(challenge);
    this.#isAnswering = false;
    return frameOf(PASSWORD_MESSAGE, answer);
  }

  #missing(what: string): BackgroundError {
    if (this.#credential?.kind === 'scram-keys') {
      return new BackgroundError(
        '28000',
        `the server asks for ${what}, and the proxy has only the SCRAM keys of this role`,
        {
          hint: 'Put its password in clear text into the auth file, or start the proxy with --auth-type passthrough.',
        },
      );
    }
    return new BackgroundError('28000', `the server asks for ${what}, and the proxy has none`, {
      hint: 'The proxy runs with --auth-type trust: choose scram or passthrough, or let the server trust the address of the proxy (pg_hba.conf).',
    });
  }
}

/** Keys are good for the salt that they were made with. */
function sameKeys(keys: ScramKeys, salt: Buffer, iterations: number): ScramKeys {
  if (keys.iterations === iterations && keys.salt.equals(salt)) return keys;
  throw new BackgroundError(
    '28P01',
    "the proxy's SCRAM verifier for this role is not the one of the server",
    {
      hint: 'Copy rolpassword from pg_authid of the server into the auth file: salt and iterations must be the same.',
    },
  );
}

function nothingFor(method: string): BackgroundError {
  return new BackgroundError('28000', `the server asks for ${method}, which the proxy cannot do`, {
    hint: 'It can do scram-sha-256, md5, password, cert and trust (pg_hba.conf).',
  });
}

function passwordMessage(text: Buffer): Buffer {
  return frameOf(PASSWORD_MESSAGE, Buffer.concat([text, Buffer.from([0])]));
}
