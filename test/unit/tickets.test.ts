import { expect } from 'chai';
import { Admission } from '../../proxy/admission.ts';
import { Tickets } from '../../proxy/processes/tickets.ts';

describe('Tickets', () => {
  it('counts the clients of all processes together', () => {
    const admission = new Admission({ maxClientConn: 2, maxLogins: 1 });
    const [one, other] = [new Tickets(admission), new Tickets(admission)];
    expect([one.enter(1), other.enter(1), one.enter(2)]).to.deep.equal([true, true, false]);
    other.release(1);
    expect(one.enter(3)).to.equal(true);
  });

  it('lets logins of all processes wait in one line', async () => {
    const admission = new Admission({ maxClientConn: 9, maxLogins: 1 });
    const [one, other] = [new Tickets(admission), new Tickets(admission)];
    const order: string[] = [];
    await one.beginLogin(1);
    const waiting = [
      other.beginLogin(1).then(() => order.push('other')),
      one.beginLogin(2).then(() => order.push('one')),
    ];
    one.release(1);
    await waiting[0];
    other.release(1);
    await waiting[1];
    expect(order).to.deep.equal(['other', 'one']);
  });

  it('forgets a login that is released while it waits', async () => {
    const tickets = new Tickets(new Admission({ maxClientConn: 9, maxLogins: 1 }));
    await tickets.beginLogin(1);
    const second = tickets.beginLogin(2);
    tickets.release(2);
    expect(await second).to.equal(false);
    tickets.release(1);
    expect(await tickets.beginLogin(3)).to.equal(true);
  });

  it('loses no place to a login that is released in the moment of its turn', async () => {
    const tickets = new Tickets(new Admission({ maxClientConn: 9, maxLogins: 1 }));
    await tickets.beginLogin(1);
    const second = tickets.beginLogin(2);
    tickets.release(1);
    tickets.release(2);
    expect(await second).to.equal(false);
    expect(await tickets.beginLogin(3)).to.equal(true);
  });

  it('has all back when the process is gone', async () => {
    const admission = new Admission({ maxClientConn: 1, maxLogins: 1 });
    const [lost, other] = [new Tickets(admission), new Tickets(admission)];
    lost.enter(1);
    await lost.beginLogin(2);
    lost.releaseAll();
    expect(other.enter(1)).to.equal(true);
    expect(await other.beginLogin(2)).to.equal(true);
  });
});
