import { stopSharedServer } from './server.ts';

export async function mochaGlobalTeardown(): Promise<void> {
  await stopSharedServer();
}
