import { TestProxy } from '../support/proxy.ts';

/** How the tests of a client are set up. */
export interface ClientOptions {
  /** What must be installed for it, when it is not here. */
  readonly missing: string | undefined;
  /** Where it connects; by default a proxy in front of a database that has the extension. */
  readonly start?: () => Promise<TestProxy>;
}

/** Tests of one client, each named after a feature. */
export function clientSuite(
  client: string,
  { missing, start = () => TestProxy.startInstalled() }: ClientOptions,
  define: (proxy: () => TestProxy) => void,
): void {
  describe('clients', () => {
    describe(client, function () {
      this.timeout(TEST_TIMEOUT_MS);
      if (missing !== undefined) {
        it(`needs ${missing}`);
        return;
      }
      let proxy: TestProxy;
      before(async () => {
        proxy = await start();
      });
      afterEach(() => proxy.expectNothingLeft());
      after(() => proxy?.stop());
      define(() => proxy);
    });
  });
}

const TEST_TIMEOUT_MS = 60_000;

/** When a program is killed that hangs: before its test is given up, so that it is seen what it has said. */
export const PROGRAM_TIMEOUT_MS = 45_000;
