import {
  BackgroundError,
  frameOf,
  MessageType,
  Password,
  ProtocolError,
  RecoveredKeys,
  SCRAM_MECHANISM,
  ScramServerExchange,
  type Credential,
} from '../src/index.ts';
import type { ClientConnection } from './client-connection.ts';
import type { Users } from './users.ts';

/** How clients show who they are: PgBouncer's auth_type, with the modes of ours. */
export type AuthType = 'scram' | 'passthrough' | 'trust';

/** What a client has shown, and what is still to be shown. */
export interface ClientProof {
  /** What the session, and its background connections, log in at the server with. */
  readonly credential: Credential | undefined;
  /** Whether nobody has checked it yet: the server must ask for it. */
  readonly isUnchecked: boolean;
}

/**
 * Lets a client show who it is; it hears AuthenticationOk from the server only.
 * @returns undefined when the client goes away
 * @throws BackgroundError 28P01 or 28000 when it is not let in, ProtocolError when it makes no sense
 */
export type Authenticate = (
  client: ClientConnection,
  user: string,
) => Promise<ClientProof | undefined>;

/** Asks for nothing; nor must the server. */
export const trust: Authenticate = () =>
  Promise.resolve({ credential: undefined, isUnchecked: false });

/** Asks for the password itself, where nobody can listen, and lets the server judge it. */
export function passthrough(offersTls: boolean): Authenticate {
  return async (client) => {
    if (!client.isPrivate) {
      throw new BackgroundError(
        '28000',
        'the proxy asks for the password itself, and does not do that over a connection that others can read',
        {
          hint: offersTls
            ? 'Connect with sslmode=require, or better with sslmode=verify-full.'
            : 'The proxy has no certificate for TLS: see --client-tls-cert-file, or --auth-type scram.',
        },
      );
    }
    client.socket.write(authenticationRequest(CLEARTEXT_PASSWORD));
    const body = await readPasswordMessage(client);
    if (body === undefined) return undefined;
    if (body.length === 0 || body.indexOf(0) !== body.length - 1)
      throw new ProtocolError('invalid password message');
    if (body.length === 1) throw new BackgroundError('28P01', 'empty password returned by client');
    // A copy: the body is a part of what was read.
    const password = new Password(Buffer.from(body.subarray(0, -1)));
    return { credential: password, isUnchecked: true };
  };
}

/** Is the SCRAM server for users whose verifiers or passwords are known. */
export function scram(users: Users): Authenticate {
  return async (client, user) => {
    const { verifier, password, isMock } = await users.find(user);
    client.socket.write(
      authenticationRequest(SASL, Buffer.from(`${SCRAM_MECHANISM}\0\0`, 'latin1')),
    );
    const initial = await readPasswordMessage(client);
    if (initial === undefined) return undefined;
    const exchange = new ScramServerExchange(verifier);
    const challenge = exchange.challenge(firstOf(initial));
    client.socket.write(authenticationRequest(SASL_CONTINUE, challenge));
    const last = await readPasswordMessage(client);
    if (last === undefined) return undefined;
    const proof = exchange.verify(last);
    // Nobody proves a mock verifier; but if somebody did, it would be worth nothing.
    if (proof === undefined || isMock) throw passwordFailed(user);
    client.socket.write(authenticationRequest(SASL_FINAL, proof.final));
    return {
      credential: password === undefined ? new RecoveredKeys(proof.keys) : new Password(password),
      isUnchecked: false,
    };
  };
}

const CLEARTEXT_PASSWORD = 3;
const SASL = 10;
const SASL_CONTINUE = 11;
const SASL_FINAL = 12;

const PASSWORD_MESSAGE = 'p'.charCodeAt(0);
const TERMINATE = 'X'.charCodeAt(0);

function authenticationRequest(kind: number, data: Buffer = Buffer.alloc(0)): Buffer {
  const body = Buffer.alloc(4 + data.length);
  body.writeInt32BE(kind);
  data.copy(body, 4);
  return frameOf(MessageType.authentication, body);
}

async function readPasswordMessage(client: ClientConnection): Promise<Buffer | undefined> {
  const message = await client.reader.message();
  if (message === undefined || message.type === TERMINATE) return undefined;
  if (message.type === PASSWORD_MESSAGE) return message.body;
  throw new ProtocolError(`expected password response, got message type ${message.type}`);
}

/** SASLInitialResponse: the mechanism, int32 length of what follows, and that. */
function firstOf(body: Buffer): Buffer {
  const end = body.indexOf(0);
  const mechanism = body.toString('latin1', 0, Math.max(end, 0));
  if (end < 0 || body.length < end + 5) throw new ProtocolError('malformed SASL message');
  if (mechanism !== SCRAM_MECHANISM)
    throw new ProtocolError('client selected an invalid SASL authentication mechanism');
  if (body.readInt32BE(end + 1) !== body.length - end - 5)
    throw new ProtocolError('malformed SASL message');
  return body.subarray(end + 5);
}

function passwordFailed(user: string): BackgroundError {
  return new BackgroundError('28P01', `password authentication failed for user "${user}"`);
}
