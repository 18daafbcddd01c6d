import { createHmac, hash, randomUUID, timingSafeEqual } from 'node:crypto';

/** Which database a key is for. It is worthless in any other, a clone on another server included. */
export interface DatabaseIdentity {
  readonly systemIdentifier: string;
  readonly databaseOid: number;
}

/** A key as the database stores it: XORed with the two pads of HMAC (RFC 2104). */
export interface KeyMaterial {
  readonly keyId: string;
  readonly innerKey: string;
  readonly outerKey: string;
}

/** The key that signs requests in one database, derived from the secret: nothing needs to be stored here. */
export function signingKey(secret: Buffer, keyId: string, identity: DatabaseIdentity): Buffer {
  return createHmac('sha256', secret)
    .update(`pgbg signing key\0${keyId}\0${identity.systemIdentifier}\0${identity.databaseOid}`)
    .digest();
}

/** A new key for a database, with an ID that was never used. */
export function newKeyMaterial(secret: Buffer, identity: DatabaseIdentity): KeyMaterial {
  const keyId = randomUUID();
  const block = Buffer.alloc(64);
  signingKey(secret, keyId, identity).copy(block);
  return {
    keyId,
    innerKey: Buffer.from(block.map((byte) => byte ^ 0x36)).toString('hex'),
    outerKey: Buffer.from(block.map((byte) => byte ^ 0x5c)).toString('hex'),
  };
}

/** Whether a request's MAC is sha256(k ‖ sha256(k ‖ payload)), k being HMAC-SHA256(key, context). */
export function isSignedWith(key: Buffer, context: string, payload: string, mac: string): boolean {
  const requestKey = createHmac('sha256', key).update(context, 'latin1').digest();
  const keyed = (bytes: Buffer) => hash('sha256', Buffer.concat([requestKey, bytes]), 'buffer');
  const expected = keyed(keyed(Buffer.from(payload, 'latin1')));
  if (!/^[0-9a-f]{64}$/.test(mac)) return false;
  const given = Buffer.from(mac, 'hex');
  return given.length === expected.length && timingSafeEqual(given, expected);
}

/** A token that lets an installing block ask for a key: it proves that the holder of the secret wrote the block. */
export function newGrantToken(secret: Buffer): string {
  const nonce = randomUUID();
  return `${nonce}.${grantMac(secret, nonce)}`;
}

export function isGrantToken(secret: Buffer, token: string): boolean {
  const [nonce = '', mac = '', ...more] = token.split('.');
  if (more.length > 0) return false;
  const expected = Buffer.from(grantMac(secret, nonce));
  const given = Buffer.from(mac);
  return given.length === expected.length && timingSafeEqual(given, expected);
}

function grantMac(secret: Buffer, nonce: string): string {
  return createHmac('sha256', secret).update(`pgbg installation\0${nonce}`).digest('hex');
}
