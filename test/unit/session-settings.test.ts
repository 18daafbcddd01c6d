import { expect } from 'chai';
import { settingsToReplay } from '../../src/session-settings.ts';

const baseline = new Map([
  ['search_path', 'public'],
  ['work_mem', '4096'],
]);

describe('settingsToReplay', () => {
  it('gives what differs from the connection', () => {
    expect(settingsToReplay(baseline, { search_path: 'tools', work_mem: '4096' })).to.deep.equal([
      ['search_path', 'tools'],
    ]);
  });

  it('gives what the connection does not have', () => {
    expect(settingsToReplay(baseline, { 'app.tenant': '5' })).to.deep.equal([['app.tenant', '5']]);
  });

  it('gives an empty value where the connection has one', () => {
    expect(settingsToReplay(baseline, { search_path: '' })).to.deep.equal([['search_path', '']]);
  });

  it('gives nothing for a session like the connection', () => {
    expect(settingsToReplay(baseline, Object.fromEntries(baseline))).to.deep.equal([]);
  });

  it('leaves alone what the session does not mention', () => {
    expect(settingsToReplay(baseline, {})).to.deep.equal([]);
  });

  it('keeps the order of the session', () => {
    const names = settingsToReplay(baseline, { b: '1', a: '2' }).map(([name]) => name);
    expect(names).to.deep.equal(['b', 'a']);
  });

  for (const value of [1, null, true, ['x'], {}]) {
    it(`leaves out a value that is ${JSON.stringify(value)} and no text`, () => {
      expect(settingsToReplay(baseline, { work_mem: value })).to.deep.equal([]);
    });
  }

  const notInherited = [
    'transaction_isolation',
    'transaction_read_only',
    'transaction_deferrable',
    'role',
    'session_authorization',
    'seed',
    'is_superuser',
    'client_encoding',
  ];
  for (const name of notInherited) {
    it(`leaves out ${name}`, () => {
      expect(settingsToReplay(baseline, { [name]: 'x' })).to.deep.equal([]);
    });
  }

  for (const name of [
    'default_transaction_isolation',
    'app.role',
    'role.app',
    'createrole_self_grant',
  ]) {
    it(`gives ${name}, which only looks like one that stays behind`, () => {
      expect(settingsToReplay(baseline, { [name]: 'x' })).to.deep.equal([[name, 'x']]);
    });
  }
});
