import { Password, type Logger, type ServerEndpoint } from '../src/index.ts';
import { readAuthFile, type AuthFile } from './auth-file.ts';
import { AuthQuery } from './auth-query.ts';
import { passthrough, scram, trust, type Authenticate } from './authentication.ts';
import type { ProxyConfig } from './config.ts';
import { Users } from './users.ts';
import { WatchedFiles } from './watched-file.ts';

/** How clients show who they are, and what that keeps open. */
export interface Authentication {
  readonly authenticate: Authenticate;
  /** Reads the list of users again, if it has changed. */
  look(): Promise<unknown>;
  close(): Promise<void>;
}

/** Where users are looked up. */
export interface AuthenticationPlace {
  readonly server: ServerEndpoint;
  readonly serverConnectTimeoutMs: number;
  readonly secret: Buffer;
  readonly logger: Logger;
  /** The list of users was read again. */
  readonly onFilesChanged: () => void;
}

const NOTHING_OPEN = { look: () => Promise.resolve(), close: () => Promise.resolve() };

/** Makes what the configuration asks for. @throws Error when the list of users cannot be read */
export async function openAuthentication(
  config: ProxyConfig,
  place: AuthenticationPlace,
): Promise<Authentication> {
  switch (config.authType) {
    case 'trust':
      return { authenticate: trust, ...NOTHING_OPEN };
    case 'passthrough':
      return {
        authenticate: passthrough(config.clientTlsSslmode !== 'off'),
        ...NOTHING_OPEN,
      };
    case 'scram': {
      const { secret, logger } = place;
      const { authFile } = config;
      const file =
        authFile === undefined
          ? undefined
          : await WatchedFiles.open(
              [authFile],
              () => readAuthFile(authFile, secret, logger),
              logger,
              place.onFilesChanged,
            );
      const query = openAuthQuery(config, file, place);
      await warnOfMissingPassword(config, file, logger);
      return {
        authenticate: scram(new Users(file, query, secret, logger)),
        look: async () => file?.current(),
        close: async () => query?.close(),
      };
    }
  }
}

/** The server may let the auth user in without, by its address or certificate; else every login fails. */
async function warnOfMissingPassword(
  { authUser }: ProxyConfig,
  file: WatchedFiles<AuthFile> | undefined,
  logger: Logger,
): Promise<void> {
  if (authUser === undefined || (await file?.current())?.get(authUser)?.password !== undefined)
    return;
  logger.warn(
    { user: authUser },
    'the auth user has no password in clear text in the auth file: the server must let it in without',
  );
}

function openAuthQuery(
  { authQuery, authUser, authDbname }: ProxyConfig,
  file: WatchedFiles<AuthFile> | undefined,
  { server, serverConnectTimeoutMs, logger }: AuthenticationPlace,
): AuthQuery | undefined {
  if (authQuery === undefined || authUser === undefined) return undefined;
  return new AuthQuery(
    {
      sql: authQuery,
      target: { server, role: authUser, database: authDbname },
      credential: async () => {
        const password = (await file?.current())?.get(authUser)?.password;
        return password === undefined ? undefined : new Password(password);
      },
      timeoutMs: serverConnectTimeoutMs,
    },
    logger,
  );
}
