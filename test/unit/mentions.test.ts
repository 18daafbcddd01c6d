import { expect } from 'chai';
import { textThatMentions } from '../../proxy/mentions.ts';
import { bytes } from '../support/messages.ts';
import { SeededRandom } from '../support/random.ts';

describe('textThatMentions', () => {
  const look = (text: string) => textThatMentions(bytes(text), 0, text.length);

  for (const text of [
    'pg_background',
    'SELECT * FROM Pg_BackGround_result(1) AS (a int)',
    'PG_BACKGROUND',
    'create DATABASE a',
    'database',
    'drop\ndatabase\0',
    'é database é',
  ]) {
    it(`gives ${JSON.stringify(text)}`, () => {
      expect(look(text)).to.equal(text);
    });
  }

  for (const text of [
    '',
    'SELECT abalance FROM pgbench_accounts WHERE aid = 1',
    'pg_backgroun',
    'pg background',
    'pgXbackground',
    'databas',
    'pg_database',
    'databases',
    'ta\x02ase pg\x7fbackground',
  ]) {
    it(`gives nothing of ${JSON.stringify(text)}`, () => {
      expect(look(text)).to.equal(undefined);
    });
  }

  it('looks at the given part only', () => {
    const text = bytes('database');
    expect(textThatMentions(text, 1, 8)).to.equal(undefined);
    expect(textThatMentions(text, 0, 7)).to.equal(undefined);
    expect(textThatMentions(bytes('a database b'), 2, 10)).to.equal('database');
  });

  it('finds the words wherever they stand', () => {
    const random = new SeededRandom(1);
    const letters = 'pgbatdse_ PGBATDSE\0\x7f';
    for (let round = 0; round < 2000; round++) {
      const noise = () =>
        Array.from({ length: random.below(12) }, () => letters[random.below(letters.length)]).join(
          '',
        );
      const text = `${noise()}${random.below(2) === 0 ? 'pg_background' : ' database '}${noise()}`;
      expect(look(text), text).to.equal(text);
    }
  });
});
