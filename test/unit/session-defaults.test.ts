import { expect } from 'chai';
import { customSettingsOf, isCustomSetting, namesGivenIn } from '../../src/session-defaults.ts';

const packet = (parameters: Record<string, string>) => new Map(Object.entries(parameters));

describe('customSettingsOf', () => {
  it('gives the parameters with a dot in their names', () => {
    expect(
      customSettingsOf(packet({ user: 'a', 'my.tenant': '42', application_name: 'b.c' })),
    ).to.deep.equal(['my.tenant']);
  });

  for (const options of [
    '-c my.tenant=42',
    '-cmy.tenant=42',
    '--my.tenant=42',
    '-c work_mem=1MB -c my.tenant=4\\ 2 --other=1',
  ]) {
    it(`finds it in the options ${options}`, () => {
      expect(customSettingsOf(packet({ options }))).to.deep.equal(['my.tenant']);
    });
  }

  it('leaves out what is ours', () => {
    expect(customSettingsOf(packet({ 'pgbg_proxy.session': 'x' }))).to.deep.equal([]);
  });
});

describe('namesGivenIn', () => {
  it('gives all names in lower case, those in options with underscores', () => {
    expect([
      ...namesGivenIn(packet({ 'PG_Background.Max_Workers': '1', options: '--pg-background.x=2' })),
    ]).to.deep.equal(['pg_background.max_workers', 'options', 'pg_background.x']);
  });
});

describe('isCustomSetting', () => {
  for (const name of ['my.tenant', 'A.b$1', '_a.b.c']) {
    it(`is true for ${name}`, () => expect(isCustomSetting(name)).to.equal(true));
  }
  for (const name of ['work_mem', 'a.', '.b', 'a b.c', 'a.b;', '1.2', 'a-b.c', '']) {
    it(`is false for '${name}'`, () => expect(isCustomSetting(name)).to.equal(false));
  }
});
