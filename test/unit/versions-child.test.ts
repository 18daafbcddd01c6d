import { expect } from 'chai';
import { lastOf } from '../versions/child.ts';

describe('what a test program said last, for the end of a long log', () => {
  it('is the account of failed tests', () => {
    const account = '2 failing\n\n  1) one\n  2) two';
    expect(lastOf(`  ✔ a test\n\n  1 passing (5ms)\n  ${account}\n\n`)).to.equal(account);
  });

  it('is the account of failed tests in colours', () => {
    const account = '\x1b[31m  2 failing\x1b[0m\n\n  1) one';
    expect(lastOf(`\x1b[32m  1 passing\x1b[0m\n${account}\n`)).to.equal(account);
  });

  it('is the last twenty lines where no test is said to have failed', () => {
    const lines = Array.from({ length: 30 }, (_, index) => `line ${index}`);
    expect(lastOf(`${lines.join('\n')}\n`).split('\n')).to.deep.equal(lines.slice(-20));
  });
});
