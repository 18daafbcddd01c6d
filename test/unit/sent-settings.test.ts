import { expect } from 'chai';
import { RememberedSettings } from '../../src/sent-settings.ts';

describe('RememberedSettings', () => {
  it('gives what was sent with a digest', () => {
    const remembered = new RememberedSettings();
    const settings = { work_mem: '4096' };
    remembered.remember('free 10', 'digest', settings);
    expect(remembered.find('free 10', 'digest')).to.equal(settings);
  });

  it('does not give a role what another has sent', () => {
    const remembered = new RememberedSettings();
    remembered.remember('free 10', 'digest', {});
    expect(remembered.find('free 11', 'digest')).to.equal(undefined);
    expect(remembered.find('bound 10', 'digest')).to.equal(undefined);
  });

  it('forgets the oldest when there are many', () => {
    const remembered = new RememberedSettings();
    for (let n = 0; n < 100; n++) remembered.remember('free 10', `digest ${n}`, { n });
    expect(remembered.find('free 10', 'digest 99')).to.deep.equal({ n: 99 });
    expect(remembered.find('free 10', 'digest 0')).to.equal(undefined);
  });
});
