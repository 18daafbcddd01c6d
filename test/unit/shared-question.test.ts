import { expect } from 'chai';
import { SharedQuestion } from '../../src/shared-question.ts';

describe('SharedQuestion', () => {
  /** A question that goes out when it is let, and gives what it was about. */
  function question() {
    const asked: (readonly number[])[] = [];
    const turns: (() => void)[] = [];
    const shared = new SharedQuestion(
      <T>(action: () => Promise<T>) =>
        new Promise<T>((resolve) => turns.push(() => resolve(action()))),
      (about) => {
        asked.push(about);
        return Promise.resolve(about);
      },
    );
    return { shared, asked, letOut: () => turns.shift()?.() };
  }

  it('is asked once for all who come before it goes out', async () => {
    const { shared, asked, letOut } = question();
    const answers = [shared.about(1), shared.about(2), shared.about(1)];
    letOut();
    expect(await Promise.all(answers)).to.deep.equal([
      [1, 2],
      [1, 2],
      [1, 2],
    ]);
    expect(asked).to.have.length(1);
  });

  it('is asked again for who comes later, about that alone', async () => {
    const { shared, letOut } = question();
    const first = shared.about(1);
    letOut();
    const second = shared.about(2);
    letOut();
    expect(await first).to.deep.equal([1]);
    expect(await second).to.deep.equal([2]);
  });

  it('fails for all who share it, and goes out again', async () => {
    let fails = true;
    const shared = new SharedQuestion(
      (action) => Promise.resolve().then(action),
      (about) => (fails ? Promise.reject(new Error('lost')) : Promise.resolve(about)),
    );
    const outcomes = await Promise.allSettled([shared.about(1), shared.about(2)]);
    expect(outcomes.map(({ status }) => status)).to.deep.equal(['rejected', 'rejected']);
    fails = false;
    expect(await shared.about(3)).to.deep.equal([3]);
  });
});
