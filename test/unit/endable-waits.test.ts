import { expect } from 'chai';
import { EndableWaits } from '../../src/endable-waits.ts';

describe('EndableWaits', () => {
  const never = new Promise<void>(() => {});

  it('are over with what they wait for, also when that fails', async () => {
    const waits = new EndableWaits();
    await waits.until(Promise.resolve());
    await waits.until(Promise.reject(new Error('lost')));
  });

  it('are all over when they are ended', async () => {
    const waits = new EndableWaits();
    const both = [waits.until(never), waits.until(never)];
    waits.end();
    expect(await Promise.all(both)).to.deep.equal([undefined, undefined]);
  });

  it('can be begun again behind an end', async () => {
    const waits = new EndableWaits();
    waits.end();
    let isOver = false;
    const wait = waits.until(never).then(() => (isOver = true));
    await Promise.resolve();
    expect(isOver).to.equal(false);
    waits.end();
    await wait;
  });
});
