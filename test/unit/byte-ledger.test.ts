import { expect } from 'chai';
import { ByteLedger } from '../../proxy/processes/byte-ledger.ts';

describe('ByteLedger', () => {
  it('gives what is wanted while there is enough', () => {
    const ledger = new ByteLedger<string>(100);
    expect(ledger.take('a', 10, 60)).to.equal(60);
  });

  it('gives what is left, if that is what is needed', () => {
    const ledger = new ByteLedger<string>(100);
    ledger.take('a', 60, 60);
    expect(ledger.take('b', 40, 80)).to.equal(40);
  });

  it('gives nothing where less is left than is needed', () => {
    const ledger = new ByteLedger<string>(100);
    ledger.take('a', 60, 60);
    expect(ledger.take('b', 41, 80)).to.equal(0);
    expect(ledger.take('b', 40, 40)).to.equal(40);
  });

  it('has again what was given back, and what those held who are gone', () => {
    const ledger = new ByteLedger<string>(100);
    ledger.take('a', 60, 60);
    ledger.take('b', 40, 40);
    ledger.giveBack('a', 30);
    expect(ledger.take('b', 30, 30)).to.equal(30);
    ledger.forget('b');
    expect(ledger.take('a', 70, 71)).to.equal(70);
  });
});
