import { expect } from 'chai';
import { apiFunctions, launch, type ApiFunction, type Task } from '../support/api-functions.ts';
import { eventually } from '../support/eventually.ts';
import { Gate } from '../support/gate.ts';
import { NO_ROWS, SEEN, type Position } from '../support/positions/position.ts';
import { protocolPositions } from '../support/positions/protocol.ts';
import { queryPositions } from '../support/positions/queries.ts';
import { CREATE_ROLES, rolePositions, ROLES } from '../support/positions/roles.ts';
import { routinePositions } from '../support/positions/routines.ts';
import { surroundingPositions } from '../support/positions/surroundings.ts';
import { transactionPositions } from '../support/positions/transactions.ts';
import { TestProxy } from '../support/proxy.ts';
import { CREATE_TRAPS } from '../support/traps.ts';
import { ServerError, WireSession } from '../support/wire-session.ts';

/**
 * Specifies that each function works in each position in which SQL lets a call stand. Each test
 * makes calls in one position, each about a worker of its own, and looks at what they gave and
 * at what has become of the workers and their handles; then the session is used once more.
 */
describe('in every position', () => {
  const proxies = {} as Record<'UTF8' | 'SQL_ASCII', TestProxy>;
  let words = 0;

  before(async () => {
    proxies.UTF8 = await TestProxy.startInstalled();
    proxies.SQL_ASCII = await TestProxy.startInstalled(
      {},
      `TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'`,
    );
    for (const proxy of Object.values(proxies)) {
      const admin = await proxy.database.direct();
      await admin.query(
        `CREATE TABLE written (word text, who name DEFAULT current_user); GRANT ALL ON written TO PUBLIC`,
      );
    }
    const admin = await proxies.UTF8.database.direct();
    await admin.query(CREATE_ROLES);
    await admin.query(CREATE_TRAPS);
  });
  after(async () => {
    const admin = await proxies.UTF8.database.direct();
    await admin.query(`DROP OWNED BY ${ROLES.join(', ')}; DROP ROLE ${ROLES.join(', ')}`);
    for (const proxy of Object.values(proxies)) await proxy.stop();
  });

  const positions = [
    ...protocolPositions,
    ...queryPositions,
    ...routinePositions,
    ...transactionPositions,
    ...rolePositions,
    ...surroundingPositions,
  ];
  for (const position of positions) {
    describe(position.name, () => {
      let proxy: TestProxy;
      let gate: Gate;

      before(async () => {
        proxy = proxies[position.encoding === 'SQL_ASCII' ? 'SQL_ASCII' : 'UTF8'];
        gate = new Gate(await proxy.database.direct());
        // Keeps the connections of the login open between the tests.
        const keeper = await proxy.connect({ user: position.user ?? 'postgres' });
        await keeper.query('SELECT pg_background_detach(pg_background_launch($$ SELECT 1 $$))');
      });
      after(() => proxy.expectNothingLeft());

      for (const called of apiFunctions) {
        it(called.name, async () => {
          await gate.close();
          const session = await WireSession.connect({
            port: proxy.port,
            database: proxy.database.name,
            user: position.user ?? 'postgres',
            encoding: position.encoding ?? 'UTF8',
          });
          try {
            await expectToWork(called, position, session, gate);
            expect(await session.rows('SELECT 1'), 'the session').to.deep.equal([['1']]);
          } finally {
            await gate.open();
            await session.end();
          }
          await eventually(() => {
            expect(proxy.engine.runningWorkers, 'workers that still run').to.equal(0);
            return Promise.resolve();
          });
        });
      }
    });
  }

  async function expectToWork(
    called: ApiFunction,
    position: Position,
    session: WireSession,
    gate: Gate,
  ): Promise<void> {
    await session.rows(SEEN);
    await position.setUp?.(session);
    const tasks: Task[] = [];
    for (let number = 0; number < (position.calls ?? 1); number++) {
      tasks.push(await newTask(called, position, session));
    }
    const [task] = tasks as [Task];
    const calls = tasks.map((one) => called.call(one));
    const running = position.run({
      session,
      calls,
      call: called.call(task),
      mistake: called.mistake(task),
      workerSql: task.sql,
    });
    const refusal = position.refusal?.(called);
    if (called.waitsAtGate && refusal === undefined) {
      // Where a worker makes the call, that one waits too.
      const others = { count: position.nested ? 1 : 0, text: called.name };
      await gate.openOnceWaiting(session.backendPid, running, others);
    }
    const lines = await outcomeOf(running, refusal);
    await position.tearDown?.(session);

    const stage = { session, gate, role: position.role ?? 'postgres' };
    if (refusal !== undefined) {
      await called.expectNothing(stage, task);
      return;
    }
    for (const [number, one] of tasks.entries()) {
      await called.expectEffect(stage, one, lines?.[number]);
      // Handles of a worker end with it.
      if (!position.nested) await called.expectHandle(stage, one, lines?.[number]);
    }
  }

  /** What the calls gave; expects them to be refused where they must be. */
  async function outcomeOf(
    running: Promise<string[][] | undefined>,
    refusal: string | undefined,
  ): Promise<string[][] | undefined> {
    try {
      const lines = await running;
      expect(refusal, 'a refusal').to.be.oneOf([undefined, NO_ROWS]);
      if (refusal === NO_ROWS) expect(lines).to.deep.equal([[]]);
      return lines;
    } catch (error) {
      if (!(error instanceof ServerError) || refusal === undefined) throw error;
      expect(error.code).to.equal(refusal);
      return undefined;
    }
  }

  async function newTask(
    called: ApiFunction,
    position: Position,
    session: WireSession,
  ): Promise<Task> {
    const word = `${position.word ?? 'word'} ${++words}`;
    const sql = called.sqlFor(word);
    if (called.launches || position.nested) return { word, sql };
    // Functions of v1 know workers by their pid.
    const handle = await launch(session, sql, called.name === 'pg_background_result');
    return { word, sql, handle };
  }
});
