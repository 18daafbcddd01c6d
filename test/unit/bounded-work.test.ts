import { expect } from 'chai';
import { BoundedWork } from '../../src/bounded-work.ts';

describe('BoundedWork', () => {
  /** Work that ends when it is told to, and what was begun and dropped. */
  function start(limit: number) {
    const begun: string[] = [];
    const ends: (() => void)[] = [];
    const tracked: Promise<void>[] = [];
    let dropped = 0;
    const work = new BoundedWork(
      limit,
      (promise) => void tracked.push(promise),
      () => dropped++,
    );
    const add = (name: string) =>
      work.add(() => {
        begun.push(name);
        return new Promise((resolve) => ends.push(resolve));
      });
    const endOne = async () => {
      ends.shift()?.();
      await new Promise(setImmediate);
    };
    return { add, endOne, begun, tracked, dropped: () => dropped };
  }

  it('begins as much at a time as it may', () => {
    const { add, begun, tracked } = start(2);
    for (const name of ['a', 'b', 'c']) add(name);
    expect(begun).to.deep.equal(['a', 'b']);
    expect(tracked).to.have.length(2);
  });

  it('keeps the last of what comes too fast, and begins it when there is room', async () => {
    const { add, endOne, begun, dropped } = start(1);
    for (const name of ['a', 'b', 'c']) add(name);
    expect(dropped()).to.equal(1);
    await endOne();
    expect(begun).to.deep.equal(['a', 'c']);
    await endOne();
    add('d');
    expect(begun).to.deep.equal(['a', 'c', 'd']);
  });
});
