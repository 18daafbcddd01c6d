// What several processes hold together; row-spool.test.ts has the limits of one.
import { expect } from 'chai';
import { ByteLedger } from '../../proxy/processes/byte-ledger.ts';
import type { ByteLease } from '../../src/index.ts';
import { RowSpool } from '../../src/row-spool.ts';
import { SpoolBudget } from '../../src/spool-budget.ts';
import { dataRow } from '../support/messages.ts';
import { rejectionOf } from '../support/rejection.ts';

const MIB = 1024 * 1024;

/** Budgets that share a total, each as a process of its own. */
function budgetsOf(totalBytes: number): (name: string) => SpoolBudget {
  const ledger = new ByteLedger<string>(totalBytes);
  return (name) => {
    const lease: ByteLease = {
      take: (needed, wanted) => Promise.resolve(ledger.take(name, needed, wanted)),
      giveBack: (bytes) => ledger.giveBack(name, bytes),
    };
    return new SpoolBudget(100 * MIB, totalBytes, lease);
  };
}

describe('SpoolBudget with a lease', () => {
  it('leases more than it needs, so that the next rows need not wait', async () => {
    const budget = budgetsOf(10 * MIB)('a');
    await budget.take(100, 0);
    expect(budget.take(MIB, 100)).to.equal(undefined);
  });

  it('refuses what all together would hold beyond the total', async () => {
    const budgetOf = budgetsOf(10 * MIB);
    const [one, other] = [budgetOf('a'), budgetOf('b')];
    await one.take(6 * MIB, 0);
    const error = await rejectionOf(other.take(5 * MIB, 0) ?? Promise.resolve());
    expect(error).to.have.property('code', '53400');
    expect(error).to.have.property('detail').that.includes('max_total_result_size');
  });

  it('gives the others what it has given back', async () => {
    const budgetOf = budgetsOf(10 * MIB);
    const [one, other] = [budgetOf('a'), budgetOf('b')];
    await one.take(9 * MIB, 0);
    one.giveBack(9 * MIB);
    await other.take(8 * MIB, 0);
  });

  it('waits once for all rows that come meanwhile, and leases for all of them', async () => {
    const budget = budgetsOf(10 * MIB)('a');
    await Promise.all([budget.take(3 * MIB, 0), budget.take(3 * MIB, 0), budget.take(4 * MIB, 0)]);
    expect(await rejectionOf(budget.take(1, 0) ?? Promise.resolve())).to.have.property(
      'code',
      '53400',
    );
  });

  it('makes a spool ask for a pause until its rows are counted', async () => {
    const budgetOf = budgetsOf(10 * MIB);
    const spool = new RowSpool(20 * MIB, budgetOf('a'));
    await spool.add(dataRow('x'.repeat(6 * MIB)));
    const other = new RowSpool(20 * MIB, budgetOf('b'));
    const pause = other.add(dataRow('x'.repeat(6 * MIB)));
    expect(await rejectionOf(pause ?? Promise.resolve())).to.have.property('code', '53400');
    await spool.close();
    await other.close();
    // Both have given back what they held, the refused one too.
    const last = new RowSpool(20 * MIB, budgetOf('b'));
    await last.add(dataRow('x'.repeat(6 * MIB)));
    await last.close();
  });
});
