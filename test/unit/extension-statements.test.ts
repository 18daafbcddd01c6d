import { expect } from 'chai';
import { movePosition, replaceExtensionStatements } from '../../proxy/extension-statements.ts';
import { createStatement, dropStatement } from '../../src/install.ts';
import { constantsIn, parseStatement, type ParsedBody } from '../support/sql-rules.ts';
import { bytes, message, parse, query, report } from '../support/messages.ts';

/** Tokens that are easy to tell apart. */
function tokens(): () => string {
  let count = 0;
  return () => `token${++count}`;
}

function replace(frame: Buffer): Buffer {
  return replaceExtensionStatements(frame, tokens()).frame;
}

/** The text of a Query message, one character a byte. */
function textOf(frame: Buffer): string {
  return frame.toString('latin1', 5, frame.length - 1);
}

function createBlock(original: string, schema?: string, token = 'token1'): string {
  return createStatement({ grantToken: token, original, schema, ifNotExists: false });
}

function dropBlock(original: string, others: string[] = [], token = 'token1'): string {
  return dropStatement({ grantToken: token, original, ifExists: false, cascade: false, others });
}

const create = 'CREATE EXTENSION pg_background';
const drop = 'DROP EXTENSION pg_background';

describe('replaceExtensionStatements', () => {
  it('replaces CREATE EXTENSION by one block', () => {
    expect(replace(query(create))).to.deep.equal(query(createBlock(create)));
  });

  it('replaces DROP EXTENSION by one block', () => {
    expect(replace(query(drop))).to.deep.equal(query(dropBlock(drop)));
  });

  it('hands on what the statements say', () => {
    const createAll = 'CREATE EXTENSION IF NOT EXISTS pg_background SCHEMA tools';
    const dropAll = 'DROP EXTENSION IF EXISTS pg_background CASCADE';
    const createdBlock = createStatement({
      grantToken: 'token1',
      original: createAll,
      schema: 'tools',
      ifNotExists: true,
    });
    const droppedBlock = dropStatement({
      grantToken: 'token2',
      original: dropAll,
      ifExists: true,
      cascade: true,
      others: [],
    });
    expect(replace(query(`${createAll};${dropAll}`))).to.deep.equal(
      query(`${createdBlock};${droppedBlock}`),
    );
  });

  const untouched: Readonly<Record<string, Buffer>> = {
    'without such a statement': query("SELECT 'CREATE EXTENSION pg_background'"),
    'that does not parse': query('CREATE EXTENSION pg_background; SELEKT 1'),
    'that creates another extension': query('CREATE EXTENSION hstore'),
    'without its zero byte': message('Q', bytes(create)),
    'of Parse whose name has no end': message('P', bytes(create)),
    'of Parse whose text has no end': message('P', bytes(`name\0${create}`)),
    'that is empty': message('Q'),
  };
  for (const [what, frame] of Object.entries(untouched)) {
    it(`gives the message itself ${what}`, () => {
      expect(replace(frame)).to.equal(frame);
    });
  }

  it('asks for no token when there is nothing to replace', () => {
    let asked = 0;
    replaceExtensionStatements(query('SELECT 1'), () => `${++asked}`);
    expect(asked).to.equal(0);
  });

  it('leaves the other statements of a batch as they are', () => {
    const batch = (statement: string) =>
      `BEGIN;  SELECT 1 ;/* now */ ${statement}; -- done\nSELECT 2;COMMIT`;
    expect(replace(query(batch(create)))).to.deep.equal(query(batch(createBlock(create))));
  });

  it('replaces each statement of a batch, with a token of its own', () => {
    expect(replace(query(`${create};${drop};${create};`))).to.deep.equal(
      query(
        `${createBlock(create)};${dropBlock(drop, [], 'token2')};${createBlock(create, undefined, 'token3')};`,
      ),
    );
  });

  for (const [encoding, text] of [
    ['UTF-8', '\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80'],
    ['LATIN1', '\xe9\xff'],
  ]) {
    it(`finds the place behind ${encoding} text`, () => {
      const batch = (statement: string) => `SELECT '${text}'; ${statement}; SELECT '${text}'`;
      expect(replace(query(batch(drop)))).to.deep.equal(query(batch(dropBlock(drop))));
    });
  }

  it('replaces the text of a Parse message and keeps its name and types', () => {
    expect(replace(parse('st\xe9', create, 23, 25))).to.deep.equal(
      parse('st\xe9', createBlock(create), 23, 25),
    );
  });

  it('replaces the text of an unnamed Parse message', () => {
    expect(replace(parse('', drop))).to.deep.equal(parse('', dropBlock(drop)));
  });

  it('does not look for statements in the name of a Parse message', () => {
    const frame = parse(create, 'SELECT 1');
    expect(replace(frame)).to.equal(frame);
  });

  it('names the other extensions of the same DROP', () => {
    const dropAll = 'DROP EXTENSION hstore, pg_background, "Odd ""one"""';
    expect(replace(query(dropAll))).to.deep.equal(
      query(dropBlock(dropAll, ['hstore', 'Odd "one"'])),
    );
  });

  const oddSchemas: readonly (readonly [written: string, meant: string])[] = [
    ['Tools', 'tools'],
    ['"Tools"', 'Tools'],
    ['"it\'s"', "it's"],
    ['"a ""quoted"" name"', 'a "quoted" name'],
    ['"back\\slash"', 'back\\slash'],
    ['"\\\'; DROP TABLE t; --"', "\\'; DROP TABLE t; --"],
    ['"$$"', '$$'],
    ['"@grant_token@"', '@grant_token@'],
    ['"\xc3\xa9"', '\xc3\xa9'],
  ];
  for (const [written, meant] of oddSchemas) {
    it(`keeps the schema ${written} as it is meant`, () => {
      const replaced = textOf(replace(query(`${create} SCHEMA ${written}`)));
      const body = parseStatement(replaced).body as ParsedBody;
      expect(constantsIn(body)).to.include.members([meant, `${create} SCHEMA ${written}`]);
    });
  }
});

describe('movePosition', () => {
  /** Where the server finds a word in the replaced text, and where the client is told that it is. */
  function toldPosition(sql: string, word: string, encoding = 'UTF8'): number {
    const utf8 = (text: string) => Buffer.from(text, 'utf8').toString('latin1');
    const replaced = replaceExtensionStatements(query(utf8(sql)), tokens());
    const text = Buffer.from(textOf(replaced.frame), 'latin1').toString('utf8');
    const seen = [...text.slice(0, text.lastIndexOf(word))].length + 1;
    const moved = movePosition(
      report('E', 'C42703', `P${seen}`),
      replaced.replacements(encoding),
    ).toString();
    return Number(/P(\d+)/.exec(moved)?.[1]);
  }

  const cases = [
    'CREATE EXTENSION pg_background; SELECT mistaken',
    'SELECT 1; CREATE EXTENSION pg_background; SELECT mistaken',
    `SELECT 'ééé'; CREATE EXTENSION pg_background SCHEMA "ünï"; SELECT 'é', mistaken`,
    'CREATE EXTENSION pg_background; DROP EXTENSION pg_background; SELECT mistaken',
  ];
  for (const sql of cases) {
    it(`gives the place in the client's text of ${sql}`, () => {
      expect(toldPosition(sql, 'mistaken')).to.equal(
        [...sql.slice(0, sql.indexOf('mistaken'))].length + 1,
      );
    });
  }

  it('leaves a position before what was replaced', () => {
    expect(toldPosition('SELECT mistaken; CREATE EXTENSION pg_background', 'mistaken')).to.equal(8);
  });

  it('leaves a report alone where nothing was replaced', () => {
    const error = report('E', 'C42703', 'P8');
    expect(movePosition(error, [])).to.equal(error);
  });
});
