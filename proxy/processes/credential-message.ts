import { Password, RecoveredKeys, type Credential } from '../../src/index.ts';

/** A credential on its way to another process of the proxy, binary values in base64. Never logged. */
export type CredentialMessage =
  | { readonly password: string }
  | {
      readonly salt: string;
      readonly iterations: number;
      readonly clientKey: string;
      readonly serverKey: string;
    };

export function writeCredential(credential: Credential): CredentialMessage {
  if (credential.kind === 'password') return { password: credential.bytes.toString('base64') };
  const { salt, iterations, clientKey, serverKey } = credential.keys;
  return {
    salt: salt.toString('base64'),
    iterations,
    clientKey: clientKey.toString('base64'),
    serverKey: serverKey.toString('base64'),
  };
}

export function readCredential(message: CredentialMessage): Credential {
  const bytes = (text: string) => Buffer.from(text, 'base64');
  if ('password' in message) return new Password(bytes(message.password));
  return new RecoveredKeys({
    salt: bytes(message.salt),
    iterations: message.iterations,
    clientKey: bytes(message.clientKey),
    serverKey: bytes(message.serverKey),
  });
}
