import { expect } from 'chai';
import { PendingAnswers } from '../../proxy/pending-answers.ts';

/** What happens in a session: a client's message by its letter, or what the server answers. */
type Event = 'ready' | 'in transaction' | 'copy' | 'error' | (string & {});

/** A session that has begun, behind these events; several letters are several messages. */
function after(...events: readonly Event[]): PendingAnswers {
  const pending = new PendingAnswers();
  pending.ready('I'.charCodeAt(0));
  for (const event of events) {
    if (event === 'ready') pending.ready('I'.charCodeAt(0));
    else if (event === 'in transaction') pending.ready('T'.charCodeAt(0));
    else if (event === 'copy') pending.copyBegan();
    else if (event === 'error') pending.failed();
    else for (const letter of event) pending.sent(letter.charCodeAt(0));
  }
  return pending;
}

describe('PendingAnswers', () => {
  it('count the end of the startup', () => {
    const pending = new PendingAnswers();
    expect(pending.isIdle).to.equal(false);
    pending.ready('I'.charCodeAt(0));
    expect(pending.isIdle).to.equal(true);
  });

  for (const events of [
    ['Q', 'ready'],
    ['F', 'ready'],
    ['PBDES', 'ready'],
    ['QQ', 'ready', 'ready'],
    ['PBES', 'PBES', 'ready', 'ready'],
    ['PBES', 'error', 'ready'],
    // COPY, by the simple and the extended protocol: as libpq does it, and in one go.
    ['Q', 'copy', 'ddc', 'ready'],
    ['PBES', 'copy', 'ddcS', 'ready'],
    ['PBESddcS', 'copy', 'ready'],
    ['PBE', 'copy', 'SddSfS', 'error', 'ready'],
    ['QSSdc', 'copy', 'ready'],
    ['PBESPBE', 'ready', 'S', 'ready'],
    ['PBEdcSPBES', 'copy', 'ready', 'ready'],
    // Data that the server does not take: it reads on to the next Sync, and ignores the rest.
    ['PBES', 'copy', 'd', 'error', 'dcS', 'ready'],
    ['Q', 'copy', 'd', 'error', 'ready', 'dc', 'Q', 'ready'],
  ]) {
    it(`are none behind ${events.join(', ')}`, () => {
      expect(after(...events).isIdle).to.equal(true);
    });
  }

  for (const events of [
    ['Q'],
    ['QQ', 'ready'],
    ['P'],
    ['Q', 'in transaction'],
    ['PBES', 'ready', 'P'],
    // Messages behind the last Sync get no answer of their own, also when they were sent before it came.
    ['PBESPBE', 'ready'],
    ['QPBDE', 'ready'],
    // The second Sync is not the COPY's.
    ['PBEdcSPBES', 'copy', 'ready'],
    ['PBES', 'copy'],
    ['PBES', 'copy', 'dcS'],
    ['Q', 'copy', 'dc'],
  ]) {
    it(`are some, or a transaction is open, behind ${events.join(', ')}`, () => {
      expect(after(...events).isIdle).to.equal(false);
    });
  }
});
