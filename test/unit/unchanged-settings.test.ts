import { expect } from 'chai';
import type { SignedContext } from '../../src/callback.ts';
import { UnchangedSettings, type LaunchPlace } from '../../src/sent-settings.ts';

const SETTINGS = { work_mem: '4096' };

describe('UnchangedSettings', () => {
  const launchAt = (place: number | undefined, roleOid = 10): LaunchPlace => ({
    context: { kind: 'free', roleOid } as SignedContext,
    plainPlace: () => (place === undefined ? undefined : { first: place, last: place }),
  });
  /** What is known after a plain launch at place 7. */
  const after = (isConfirmed: boolean) => {
    const unchanged = new UnchangedSettings(1_000);
    unchanged.note(launchAt(7), SETTINGS, true);
    if (isConfirmed) unchanged.confirm(launchAt(7));
    return unchanged;
  };

  it('are those of a plain launch right before', () => {
    expect(after(true).find(launchAt(8))).to.equal(SETTINGS);
  });

  for (const [what, launch] of [
    ['with a message between', launchAt(9)],
    ['in the same statement', launchAt(7)],
    ['in another statement than a plain one', launchAt(undefined)],
    ['of another role', launchAt(8, 11)],
  ] as const) {
    it(`are not known for a launch ${what}`, () => {
      expect(after(true).find(launch)).to.equal(undefined);
    });
  }

  it('are not known as long as other functions may have stood there', () => {
    expect(after(false).find(launchAt(8))).to.equal(undefined);
  });

  it('are not confirmed by another statement', () => {
    const unchanged = after(false);
    unchanged.confirm(launchAt(8));
    expect(unchanged.find(launchAt(8))).to.equal(undefined);
  });

  it('are those of a statement of several messages, of which the last came while it ran', () => {
    const unchanged = new UnchangedSettings(1_000);
    const launch = (first: number, last: number): LaunchPlace => ({
      ...launchAt(first),
      plainPlace: () => ({ first, last }),
    });
    unchanged.note(launch(4, 7), SETTINGS, true);
    unchanged.confirm(launch(4, 8));
    expect(unchanged.find(launch(8, 12)), 'the last of its messages').to.equal(undefined);
    expect(unchanged.find(launch(9, 12))).to.equal(SETTINGS);
  });

  it('are forgotten with a launch in another statement', () => {
    const unchanged = after(true);
    unchanged.note(launchAt(undefined), SETTINGS, true);
    expect(unchanged.find(launchAt(8))).to.equal(undefined);
  });

  it('could have been left out by the second of two launches with the same', () => {
    const unchanged = after(true);
    expect(unchanged.note(launchAt(8), SETTINGS, true)).to.equal(true);
    unchanged.confirm(launchAt(8));
    expect(unchanged.note(launchAt(9), { ...SETTINGS }, true), 'with others').to.equal(false);
  });

  it('are looked at again a second after they were told, however many launches have left them out', () => {
    let now = 0;
    const unchanged = new UnchangedSettings(1_000, () => now);
    unchanged.note(launchAt(0), SETTINGS, true);
    for (let place = 1; place <= 10; place++) {
      unchanged.confirm(launchAt(place - 1));
      now += 100;
      expect(unchanged.find(launchAt(place)), `after ${now} ms`).to.equal(SETTINGS);
      unchanged.note(launchAt(place), SETTINGS, false);
    }
    unchanged.confirm(launchAt(10));
    now += 1;
    expect(unchanged.find(launchAt(11))).to.equal(undefined);
  });
});
