import { expect } from 'chai';
import { BackgroundError } from '../../src/errors.ts';
import { findExtensionStatements, splitStatements, vetWorkerSql } from '../../src/sql-text.ts';

describe('splitStatements', () => {
  it('gives the statements without semicolons and surrounding space', () => {
    expect(splitStatements(' SELECT 1;\n\n SELECT 2 ;')).to.deep.equal(['SELECT 1', 'SELECT 2']);
  });

  it('leaves out empty statements', () => {
    expect(splitStatements(';; SELECT 1;;')).to.deep.equal(['SELECT 1']);
  });

  it('keeps semicolons inside texts', () => {
    const statements = ["SELECT ';'", 'DO $a$ BEGIN NULL; END $a$', 'SELECT ";" FROM t'];
    expect(splitStatements(statements.join(';'))).to.deep.equal(statements);
  });

  it('cuts behind characters of several bytes at the right place', () => {
    const statements = ["SELECT 'é€😀'", "SELECT 'ü'", 'SELECT 3'];
    expect(splitStatements(statements.join('; '))).to.deep.equal(statements);
  });

  it('gives nothing for an empty script', () => {
    expect(splitStatements(' \n')).to.deep.equal([]);
  });

  it('throws for what does not parse', () => {
    expect(() => splitStatements('SELECT 1; SELEKT 2')).to.throw('syntax error');
  });
});

describe('vetWorkerSql', () => {
  const refused: Readonly<Record<string, readonly string[]>> = {
    'transaction control statements are not allowed in pg_background': [
      'BEGIN',
      'start transaction',
      'COMMIT',
      'END',
      'ROLLBACK',
      'ABORT',
      'SAVEPOINT s',
      'RELEASE s',
      'ROLLBACK TO s',
      "PREPARE TRANSACTION 'p'",
      "COMMIT PREPARED 'p'",
      'SELECT 1; COMMIT; SELECT 2',
      '/* hidden */ COMMIT',
      "SELECT '\xc3\xa9'; COMMIT",
    ],
    'COPY protocol not allowed in pg_background': [
      'COPY t FROM STDIN',
      'COPY t TO STDOUT',
      'COPY (SELECT 1) TO STDOUT',
      'SELECT 1; copy t from stdin',
    ],
    'cannot execute LISTEN within a background process': ['LISTEN news', 'SELECT 1; LISTEN news'],
  };
  for (const [message, texts] of Object.entries(refused)) {
    for (const text of texts) {
      it(`refuses ${JSON.stringify(text)} with 0A000`, () => {
        expect(() => vetWorkerSql(text))
          .to.throw(BackgroundError, message)
          .with.property('code', '0A000');
      });
    }
  }

  const accepted = [
    'SELECT 1',
    'SELECT 1; SELECT 2',
    '',
    "COPY t TO '/srv/file'",
    "COPY t FROM PROGRAM 'cat'",
    'NOTIFY news',
    'UNLISTEN news',
    "SELECT 'COMMIT; BEGIN'",
    'DO $$ BEGIN PERFORM 1; END $$',
    'PREPARE p AS SELECT 1',
    'VACUUM t',
  ];
  for (const text of accepted) {
    it(`accepts ${JSON.stringify(text)}`, () => {
      expect(vetWorkerSql(text)).to.be.a('number');
    });
  }

  it('says of a text that does not parse that nothing is known', () => {
    expect(vetWorkerSql('COMMIT; SELEKT')).to.equal(undefined);
  });
});

describe('findExtensionStatements', () => {
  it('reads what CREATE EXTENSION says', () => {
    const sql = `CREATE EXTENSION IF NOT EXISTS pg_background WITH SCHEMA tools VERSION '1.8' CASCADE`;
    expect(findExtensionStatements(sql)).to.deep.equal([
      {
        kind: 'create',
        start: 0,
        end: sql.length,
        text: sql,
        schema: 'tools',
        version: '1.8',
        ifNotExists: true,
      },
    ]);
  });

  it('reads a CREATE EXTENSION that says nothing', () => {
    expect(findExtensionStatements('CREATE EXTENSION pg_background')[0]).to.deep.include({
      schema: undefined,
      version: undefined,
      ifNotExists: false,
    });
  });

  it('reads ALTER EXTENSION UPDATE, with and without a version', () => {
    const [latest, named] = findExtensionStatements(
      `ALTER EXTENSION pg_background UPDATE; ALTER EXTENSION pg_background UPDATE TO '1.8'`,
    );
    expect(latest).to.deep.include({ kind: 'update', version: undefined });
    expect(named).to.deep.include({ kind: 'update', version: '1.8' });
  });

  it('reads ALTER EXTENSION SET SCHEMA', () => {
    const [found] = findExtensionStatements('ALTER EXTENSION pg_background SET SCHEMA "My Tools"');
    expect(found).to.deep.include({ kind: 'setSchema', schema: 'My Tools' });
  });

  it('reads what DROP EXTENSION says', () => {
    const sql = 'DROP EXTENSION IF EXISTS pg_background CASCADE';
    expect(findExtensionStatements(sql)).to.deep.equal([
      {
        kind: 'drop',
        start: 0,
        end: sql.length,
        text: sql,
        ifExists: true,
        cascade: true,
        others: [],
      },
    ]);
  });

  it('reads a DROP EXTENSION that says nothing', () => {
    expect(findExtensionStatements('DROP EXTENSION pg_background')[0]).to.deep.include({
      ifExists: false,
      cascade: false,
    });
  });

  it('takes RESTRICT for what is meant without it', () => {
    const [drop] = findExtensionStatements('DROP EXTENSION pg_background RESTRICT');
    expect(drop).to.have.property('cascade', false);
  });

  it('lists the other extensions that the same statement drops', () => {
    const [drop] = findExtensionStatements('DROP EXTENSION hstore, pg_background, "Odd ""one"""');
    expect(drop).to.have.deep.property('others', ['hstore', 'Odd "one"']);
  });

  const named = [
    'create extension PG_Background',
    'CREATE EXTENSION "pg_background"',
    'CREATE/**/EXTENSION pg_background',
    "CREATE EXTENSION pg_background VERSION '1.6' CASCADE",
  ];
  for (const text of named) {
    it(`finds ${text}`, () => {
      expect(findExtensionStatements(text)).to.have.length(1);
    });
  }

  const others = [
    'CREATE EXTENSION hstore',
    'CREATE EXTENSION "PG_BACKGROUND"',
    'CREATE EXTENSION pg_background2',
    'DROP EXTENSION hstore',
    'DROP TABLE pg_background',
    'ALTER EXTENSION hstore UPDATE',
    'ALTER EXTENSION hstore SET SCHEMA pg_background',
    'ALTER EXTENSION pg_background ADD FUNCTION f()',
    'ALTER SCHEMA pg_background RENAME TO other',
    "SELECT 'CREATE EXTENSION pg_background'",
    '-- CREATE EXTENSION pg_background',
    'CREATE EXTENSION pg_background; SELEKT 1',
    '',
  ];
  for (const text of others) {
    it(`finds nothing in ${JSON.stringify(text)}`, () => {
      expect(findExtensionStatements(text)).to.deep.equal([]);
    });
  }

  it('gives the place of each statement in a batch', () => {
    const batch =
      'SELECT 1; CREATE EXTENSION pg_background ;SELECT 2;DROP EXTENSION pg_background;';
    expect(
      findExtensionStatements(batch).map(({ start, end }) => batch.slice(start, end)),
    ).to.deep.equal(['CREATE EXTENSION pg_background ', 'DROP EXTENSION pg_background']);
  });

  for (const text of ['\xc3\xa9\xe2\x82\xac', '\xe9\xff', '\x7f\x80']) {
    it(`counts bytes behind the text ${JSON.stringify(text)}`, () => {
      const batch = `SELECT '${text}'; DROP EXTENSION pg_background; SELECT '${text}'`;
      const start = batch.indexOf('DROP');
      expect(findExtensionStatements(batch)[0]).to.deep.include({
        start,
        end: batch.lastIndexOf(';'),
        text: 'DROP EXTENSION pg_background',
      });
    });
  }

  it('gives a schema as the bytes that the text has', () => {
    const [create] = findExtensionStatements('CREATE EXTENSION pg_background SCHEMA "\xc3\xa9"');
    expect(create).to.have.property('schema', '\xc3\xa9');
  });
});
