import { expect } from 'chai';
import { apiFunctions, apiTypes, ownerFunctions } from '../../src/api.ts';
import {
  alterStatement,
  createStatement,
  dropStatement,
  installStatements,
  type AlterOptions,
  type CreateOptions,
  type DropOptions,
} from '../../src/install.ts';
import { constantsIn, namesOf, parseStatement, type ParsedBody } from '../support/sql-rules.ts';

const create: CreateOptions = {
  grantToken: 'grant.token',
  original: 'CREATE EXTENSION pg_background',
  schema: undefined,
  ifNotExists: false,
};
const alter: AlterOptions = {
  grantToken: 'grant.token',
  original: 'ALTER EXTENSION pg_background UPDATE',
};
const drop: DropOptions = {
  grantToken: 'grant.token',
  original: 'DROP EXTENSION pg_background',
  ifExists: false,
  cascade: false,
  others: [],
};

/** Names and statements with what might end a literal, or be taken for a placeholder or a format. */
const oddTexts = [
  "it's",
  'a "quoted" text',
  'back\\slash',
  "\\'; SELECT 1; --",
  'line\nbreak',
  '$$ and $pgbg_sql$',
  '$pgbg_install$',
  '$pgbg_drop$',
  '$pgbg_update$',
  '$pgbg_set_schema$',
  '@schema@ and @statements@',
  '%s %I %1$s',
  '\xc3\xa9',
  '-- comment',
];

function bodyOf(sql: string): ParsedBody {
  return parseStatement(sql).body as ParsedBody;
}

function constantsOf(sql: string): string[] {
  return constantsIn(bodyOf(sql));
}

describe('installStatements', () => {
  it('fills in every placeholder', () => {
    expect(installStatements().filter((sql) => /@\w+@/.test(sql))).to.deep.equal([]);
  });

  it('gives statements that parse', () => {
    expect(() => installStatements().map(parseStatement)).not.to.throw();
  });

  it('leaves the schema of the API open', () => {
    const functions = installStatements().filter((sql) => sql.startsWith('CREATE FUNCTION __ext'));
    expect(functions).to.have.length(apiFunctions.length + ownerFunctions.length);
  });

  it('creates before it takes privileges away', () => {
    const statements = installStatements();
    const lastCreate = statements.findLastIndex((sql) => sql.startsWith('CREATE'));
    const firstRevoke = statements.findIndex((sql) => sql.startsWith('REVOKE'));
    expect(firstRevoke).to.be.above(lastCreate);
  });
});

describe('createStatement', () => {
  it('gives one DO block', () => {
    expect(parseStatement(createStatement(create)).kind).to.equal('DoStmt');
  });

  it('fills in every placeholder', () => {
    expect(createStatement(create)).not.to.match(/@\w+@/);
  });

  it('runs the statements of sql/ in their order', () => {
    const constants = constantsOf(createStatement(create));
    const statements = installStatements();
    expect(constants.filter((text) => statements.includes(text))).to.deep.equal(statements);
  });

  it('carries the grant token', () => {
    expect(constantsOf(createStatement(create))).to.include('grant.token');
  });

  it('says NULL when no schema is named', () => {
    expect(createStatement(create)).to.match(/\btarget +pg_catalog\.text := NULL;/);
  });

  it('names the schema', () => {
    expect(createStatement({ ...create, schema: 'tools' })).to.include(":= 'tools';");
  });

  for (const isTolerant of [true, false]) {
    it(`says whether IF NOT EXISTS was said: ${isTolerant}`, () => {
      const sql = createStatement({ ...create, ifNotExists: isTolerant });
      expect(sql).to.include(`IF NOT ${isTolerant} THEN`);
    });
  }

  for (const text of oddTexts) {
    it(`keeps a schema named ${JSON.stringify(text)} as it is`, () => {
      expect(constantsOf(createStatement({ ...create, schema: text }))).to.include(text);
    });

    it(`keeps ${JSON.stringify(text)} in the original statement as it is`, () => {
      expect(constantsOf(createStatement({ ...create, original: text }))).to.include(text);
    });
  }
});

describe('alterStatement', () => {
  for (const [what, options] of [
    ['UPDATE', alter],
    ['SET SCHEMA', { ...alter, schema: 'tools' }],
  ] as const) {
    it(`gives one DO block for ${what}`, () => {
      expect(parseStatement(alterStatement(options)).kind).to.equal('DoStmt');
    });

    it(`fills in every placeholder for ${what}`, () => {
      expect(alterStatement(options)).not.to.match(/@\w+@/);
    });

    it(`carries the grant token for ${what}`, () => {
      expect(constantsOf(alterStatement(options))).to.include('grant.token');
    });
  }

  it('moves the functions of the API and of its owner, and the types', () => {
    const constants = constantsOf(alterStatement({ ...alter, schema: 'tools' }));
    expect(constants).to.include.members([
      ...[...apiFunctions, ...ownerFunctions].map(
        ([name, types]) => `FUNCTION %1$I.${name}(${types})`,
      ),
      ...apiTypes.map((name) => `TYPE %1$I.${name}`),
    ]);
  });

  for (const text of oddTexts) {
    it(`keeps a schema named ${JSON.stringify(text)} as it is`, () => {
      expect(constantsOf(alterStatement({ ...alter, schema: text }))).to.include(text);
    });

    it(`keeps a version named ${JSON.stringify(text)} as it is`, () => {
      expect(constantsOf(alterStatement({ ...alter, version: text }))).to.include(text);
    });

    it(`keeps ${JSON.stringify(text)} in the original statement as it is`, () => {
      expect(constantsOf(alterStatement({ ...alter, original: text }))).to.include(text);
    });
  }
});

describe('dropStatement', () => {
  it('gives one DO block', () => {
    expect(parseStatement(dropStatement(drop)).kind).to.equal('DoStmt');
  });

  it('fills in every placeholder', () => {
    expect(dropStatement({ ...drop, others: ['hstore'] })).not.to.match(/@\w+@/);
  });

  it('carries the grant token', () => {
    expect(constantsOf(dropStatement(drop))).to.include('grant.token');
  });

  it('drops the functions of the API and of its owner', () => {
    const functions = [...apiFunctions, ...ownerFunctions];
    const list = functions.map(([name, types]) => `%1$s.${name}(${types})`).join(', ');
    expect(constantsOf(dropStatement(drop))).to.include(`DROP FUNCTION ${list}`);
  });

  it('drops the types of the API', () => {
    const list = apiTypes.map((name) => `%1$s.${name}`).join(', ');
    expect(constantsOf(dropStatement(drop))).to.include(`DROP TYPE ${list}`);
  });

  it('drops what depends on them only where CASCADE was said', () => {
    const cascading = (sql: string) =>
      constantsOf(sql).filter((text) => /^DROP (FUNCTION|TYPE) .* CASCADE$/.test(text));
    expect(cascading(dropStatement(drop))).to.have.length(0);
    expect(cascading(dropStatement({ ...drop, cascade: true }))).to.have.length(2);
  });

  for (const isTolerant of [true, false]) {
    it(`says whether IF EXISTS was said: ${isTolerant}`, () => {
      const sql = dropStatement({ ...drop, ifExists: isTolerant });
      expect(sql).to.include(`IF NOT ${isTolerant} THEN`);
    });
  }

  it('drops the other extensions in their order', () => {
    const constants = constantsOf(dropStatement({ ...drop, others: ['b', 'a'] }));
    expect(constants.filter((text) => text.startsWith('DROP EXTENSION "'))).to.deep.equal([
      'DROP EXTENSION "b"',
      'DROP EXTENSION "a"',
    ]);
  });

  it('drops the other extensions as the statement said', () => {
    const sql = dropStatement({ ...drop, others: ['a'], ifExists: true, cascade: true });
    expect(constantsOf(sql)).to.include('DROP EXTENSION IF EXISTS "a" CASCADE');
  });

  for (const text of oddTexts) {
    it(`keeps another extension named ${JSON.stringify(text)} as it is`, () => {
      const constants = constantsOf(dropStatement({ ...drop, others: [text] }));
      const statement = constants.find((constant) => constant.startsWith('DROP EXTENSION "')) ?? '';
      expect(namesOf(parseStatement(statement).fields['objects'])).to.deep.equal([text]);
    });

    it(`keeps ${JSON.stringify(text)} in the original statement as it is`, () => {
      expect(constantsOf(dropStatement({ ...drop, original: text }))).to.include(text);
    });
  }
});
