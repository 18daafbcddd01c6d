import { scramKeys, type ScramKeys } from './scram.ts';

/** A password in clear text. */
export class Password {
  readonly kind = 'password';
  readonly bytes: Buffer;
  /** The keys for the salt that was asked for last: PBKDF2 costs milliseconds at each login. */
  #keys: ScramKeys | undefined;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  async keysFor(salt: Buffer, iterations: number): Promise<ScramKeys> {
    if (this.#keys?.iterations !== iterations || !this.#keys.salt.equals(salt))
      this.#keys = await scramKeys(this.bytes, salt, iterations);
    return this.#keys;
  }

  isSameAs(other: Credential): boolean {
    return other.kind === 'password' && other.bytes.equals(this.bytes);
  }

  /** Nothing of it gets into logs. */
  toJSON(): string {
    return '***';
  }
}

/** The keys that a SCRAM exchange with a client has revealed: as good as its password, for SCRAM. */
export class RecoveredKeys {
  readonly kind = 'scram-keys';
  readonly keys: ScramKeys;

  constructor(keys: ScramKeys) {
    this.keys = keys;
  }

  isSameAs(other: Credential): boolean {
    return other.kind === 'scram-keys' && other.keys.clientKey.equals(this.keys.clientKey);
  }

  /** Nothing of it gets into logs. */
  toJSON(): string {
    return '***';
  }
}

/** What there is to log in at the server with; undefined where it must not ask for anything. */
export type Credential = Password | RecoveredKeys;
