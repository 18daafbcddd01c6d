import { expect } from 'chai';
import { Admission } from '../../proxy/admission.ts';
import { rejectionOf } from '../support/rejection.ts';

const never = new AbortController().signal;

describe('Admission', () => {
  it('lets in as many clients as there may be', () => {
    const admission = new Admission({ maxClientConn: 2, maxLogins: 1 });
    const leave = admission.enter();
    admission.enter();
    expect(() => admission.enter())
      .to.throw('max_client_conn')
      .with.property('code', '53300');
    leave();
    leave(); // once is enough
    admission.enter();
    expect(() => admission.enter()).to.throw('max_client_conn');
  });

  it('lets logins wait for their turn, first come, first served', async () => {
    const admission = new Admission({ maxClientConn: 9, maxLogins: 1 });
    const order: string[] = [];
    const end = await admission.beginLogin(never);
    const second = admission.beginLogin(never).then((endSecond) => {
      order.push('second');
      return endSecond;
    });
    const third = admission.beginLogin(never).then(() => order.push('third'));
    await Promise.resolve();
    expect(order).to.deep.equal([]);
    end();
    const endSecond = await second;
    expect(order).to.deep.equal(['second']);
    endSecond();
    await third;
    expect(order).to.deep.equal(['second', 'third']);
  });

  it('forgets a login that gives up waiting', async () => {
    const admission = new Admission({ maxClientConn: 9, maxLogins: 1 });
    const end = await admission.beginLogin(never);
    const clock = new AbortController();
    const waiting = admission.beginLogin(clock.signal);
    clock.abort(new Error('too late'));
    expect(await rejectionOf(waiting)).to.have.property('message', 'too late');
    end();
    await admission.beginLogin(never);
  });

  it('lets no login begin that has given up before', async () => {
    const admission = new Admission({ maxClientConn: 9, maxLogins: 1 });
    await admission.beginLogin(never);
    const late = admission.beginLogin(AbortSignal.abort(new Error('too late')));
    expect(await rejectionOf(late)).to.have.property('message', 'too late');
  });
});
