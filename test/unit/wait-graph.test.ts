import { expect } from 'chai';
import { WaitGraph } from '../../src/wait-graph.ts';

/** Session 1 waits for worker 10, that for session 2, that for worker 20, and that for session 1. */
const BLOCKERS: ReadonlyMap<number, readonly number[]> = new Map([
  [10, [2]],
  [20, [1]],
]);
const findBlockers = (pid: number) => Promise.resolve(BLOCKERS.get(pid) ?? []);

/** The graphs of two processes, of which each knows its own waits and can ask for the other's. */
function twoGraphs(): readonly [WaitGraph, WaitGraph] {
  const one: WaitGraph = new WaitGraph(() => Promise.resolve(other.waits));
  const other: WaitGraph = new WaitGraph(() => Promise.resolve(one.waits));
  return [one, other];
}

describe('WaitGraph', () => {
  it('lets the youngest call of a cycle give way, also where the other is another process’s', async () => {
    const [one, other] = twoGraphs();
    one.begin(1, 10);
    other.begin(2, 20);
    expect(await one.mustGiveWay(1, findBlockers)).to.equal(false);
    expect(await other.mustGiveWay(2, findBlockers)).to.equal(true);
  });

  it('finds no cycle where a wait has ended', async () => {
    const [one, other] = twoGraphs();
    const done = one.begin(1, 10);
    other.begin(2, 20);
    done();
    expect(await other.mustGiveWay(2, findBlockers)).to.equal(false);
  });

  it('finds one without those of whom nothing is known', async () => {
    const graph = new WaitGraph(() => Promise.resolve([]));
    graph.begin(1, 10);
    const blockers = (pid: number) => Promise.resolve(pid === 10 ? [1] : []);
    expect(await graph.mustGiveWay(1, blockers)).to.equal(true);
  });

  it('asks nothing about a session in a call, which waits for its worker and nothing else', async () => {
    const [one, other] = twoGraphs();
    one.begin(1, 10);
    other.begin(2, 20);
    const asked: number[] = [];
    await one.mustGiveWay(1, (pid) => {
      asked.push(pid);
      return findBlockers(pid);
    });
    expect(asked).to.deep.equal([10, 20]);
  });

  it('chooses one of two that have begun in the same microsecond', async () => {
    const chosen: boolean[] = [];
    for (const [own, other] of [
      [
        { sessionPid: 1, workerPid: 10 },
        { sessionPid: 2, workerPid: 20 },
      ],
      [
        { sessionPid: 2, workerPid: 20 },
        { sessionPid: 1, workerPid: 10 },
      ],
    ] as const) {
      let order = 0;
      const graph = new WaitGraph(() => Promise.resolve([{ ...other, order }]));
      graph.begin(own.sessionPid, own.workerPid);
      order = graph.waits[0]?.order ?? 0;
      chosen.push(await graph.mustGiveWay(own.sessionPid, findBlockers));
    }
    expect(chosen).to.deep.equal([false, true]);
  });
});
