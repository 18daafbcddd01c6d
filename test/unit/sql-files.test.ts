import { expect } from 'chai';
import { readdirSync, readFileSync } from 'node:fs';
import {
  apiFunctions,
  apiTypes,
  internalFunctions,
  internalViews,
  ownerFunctions,
  ownerInternalFunctions,
} from '../../src/api.ts';
import {
  alterStatement,
  createStatement,
  dropStatement,
  installStatements,
} from '../../src/install.ts';
import {
  complaintsAbout,
  countsOf,
  namesOf,
  parseStatement,
  type ParsedBody,
  type Tree,
} from '../support/sql-rules.ts';

const folder = new URL('../../../sql/', import.meta.url);
const files = (readdirSync(folder, { recursive: true }) as string[]).filter((name) =>
  name.endsWith('.sql'),
);

const block = {
  grantToken: 'token',
  original: 'the statement',
  ifNotExists: true,
  schema: 'tools',
};
const update = { grantToken: 'token', original: 'the statement', version: '1.8' };
const blocks = [
  ['CREATE EXTENSION', createStatement(block)],
  ['ALTER EXTENSION UPDATE', alterStatement(update)],
  ['ALTER EXTENSION SET SCHEMA', alterStatement({ ...update, schema: 'tools' })],
  [
    'DROP EXTENSION',
    dropStatement({ ...block, ifExists: true, cascade: true, others: ['hstore'] }),
  ],
] as const;
const statements = [...installStatements(), ...blocks.map(([, sql]) => sql)];
const created = installStatements().map(parseStatement);
const functions = created.filter(({ kind }) => kind === 'CreateFunctionStmt');

/** A statement in a line, to tell which one a test is about. */
function titleOf(sql: string): string {
  return sql.replace(/\s+/g, ' ').slice(0, 90);
}

/** The identity of a function, as src/api.ts writes it. */
function signatureOf(name: string[], types: readonly Tree[]): string {
  return `${name.join('.')}(${types.map(typeOf).join(', ')})`;
}

function typeOf(typeName: Tree): string {
  return namesOf(typeName['names']).join('.') + (typeName['arrayBounds'] === undefined ? '' : '[]');
}

function signatureOfFunction({ fields }: { fields: Tree }): string {
  const parameters = (fields['parameters'] ?? []) as { FunctionParameter: { argType: Tree } }[];
  return signatureOf(
    namesOf(fields['funcname']),
    parameters.map(({ FunctionParameter }) => FunctionParameter.argType),
  );
}

/** What CREATE and COMMENT name, in the same words. */
function createdObject({ kind, fields }: { kind: string; fields: Tree }): string | undefined {
  const relation = (field: string) => {
    const { schemaname, relname } = fields[field] as { schemaname: string; relname: string };
    return `${schemaname}.${relname}`;
  };
  switch (kind) {
    case 'CreateSchemaStmt':
      return `OBJECT_SCHEMA ${String(fields['schemaname'])}`;
    case 'CreateStmt':
      return `OBJECT_TABLE ${relation('relation')}`;
    case 'ViewStmt':
      return `OBJECT_VIEW ${relation('view')}`;
    case 'CompositeTypeStmt':
      return `OBJECT_TYPE ${relation('typevar')}`;
    case 'CreateFunctionStmt':
      return `OBJECT_FUNCTION ${signatureOfFunction({ fields })}`;
    default:
      return undefined;
  }
}

function commentedObject(fields: Tree): string {
  const object = fields['object'] as Readonly<Record<string, Tree>>;
  const { ObjectWithArgs: withArguments, List: list, TypeName: type, String: text } = object;
  const argumentTypes = (withArguments?.['objargs'] ?? []) as { TypeName: Tree }[];
  const name =
    (withArguments &&
      signatureOf(
        namesOf(withArguments['objname']),
        argumentTypes.map(({ TypeName }) => TypeName),
      )) ??
    (list && namesOf(list['items']).join('.')) ??
    (type && typeOf(type)) ??
    String(text?.['sval']);
  return `${String(fields['objtype'])} ${name}`;
}

function optionsOf({ fields }: { fields: Tree }): string[] {
  return (fields['options'] as { DefElem: { defname: string } }[]).map(
    ({ DefElem }) => DefElem.defname,
  );
}

/** The statement that sets search_path where a function has one, as its tree. */
function searchPathOf({ fields }: { fields: Tree }): string[] | undefined {
  const options = fields['options'] as { DefElem: { defname: string; arg: Tree } }[];
  const set = options.find(({ DefElem }) => DefElem.defname === 'set')?.DefElem.arg;
  const { name, args } = (set?.['VariableSetStmt'] ?? {}) as {
    name?: string;
    args?: { A_Const: { sval: { sval: string } } }[];
  };
  return name === 'search_path' ? args?.map(({ A_Const }) => A_Const.sval.sval) : undefined;
}

describe('sql/', () => {
  for (const name of files) {
    it(`holds nothing but ASCII in ${name}`, () => {
      expect(readFileSync(new URL(name, folder), 'latin1')).to.match(/^[\n\x20-\x7e]*$/);
    });
  }

  for (const sql of statements) {
    it(`names everything with its schema in ${titleOf(sql)}`, () => {
      expect(complaintsAbout(sql)).to.deep.equal([]);
    });
  }

  it('creates, comments, grants and revokes, and does nothing else', () => {
    expect([...new Set(created.map(({ kind }) => kind))].sort()).to.deep.equal([
      'AlterTableStmt',
      'CommentStmt',
      'CompositeTypeStmt',
      'CreateFunctionStmt',
      'CreateSchemaStmt',
      'CreateStmt',
      'GrantStmt',
      'ViewStmt',
    ]);
  });

  it('replaces nothing that is there', () => {
    const replacing = created.filter(({ fields }) => fields['replace'] === true);
    expect(replacing).to.deep.equal([]);
  });

  it('fails where something is in the way', () => {
    const tolerant = created.filter(({ fields }) => fields['if_not_exists'] === true);
    expect(tolerant).to.deep.equal([]);
  });

  it('grants nothing', () => {
    const granting = created.filter(
      ({ kind, fields }) => kind === 'GrantStmt' && fields['is_grant'] === true,
    );
    expect(granting).to.deep.equal([]);
  });

  it('says of each object what it is for', () => {
    const objects = created.map(createdObject).filter((object) => object !== undefined);
    const comments = created
      .filter(({ kind }) => kind === 'CommentStmt')
      .map(({ fields }) => commentedObject(fields));
    expect(comments).to.have.members(objects);
  });

  it('creates the functions that src/api.ts lists', () => {
    const listed = [
      ...[...apiFunctions, ...ownerFunctions].map(
        ([name, types]) => `__extschema__.${name}(${types})`,
      ),
      ...internalFunctions.map((signature) => `pgbackground.${signature}`),
      ...ownerInternalFunctions.map((signature) => `pgbackground.${signature}`),
    ];
    expect(functions.map(signatureOfFunction)).to.have.members(listed);
  });

  it('creates the types and views that src/api.ts lists', () => {
    const found = created
      .map(createdObject)
      .filter((object) => /^OBJECT_(TYPE|VIEW)/.test(object ?? ''));
    expect(found).to.have.members([
      ...apiTypes.map((name) => `OBJECT_TYPE __extschema__.${name}`),
      ...internalViews.map((name) => `OBJECT_VIEW pgbackground.${name}`),
    ]);
  });

  it('takes from PUBLIC each function and type that it creates', () => {
    const revoked = created
      .filter(({ kind }) => kind === 'GrantStmt')
      .flatMap(({ fields }) => fields['objects'] as Readonly<Record<string, Tree>>[])
      .map(({ ObjectWithArgs: withArguments, List: list }) =>
        withArguments
          ? namesOf(withArguments['objname']).join('.')
          : namesOf(list?.['items']).join('.'),
      );
    const names = [
      ...functions.map(({ fields }) => namesOf(fields['funcname']).join('.')),
      ...apiTypes.map((name) => `__extschema__.${name}`),
    ];
    expect(revoked).to.have.members(names);
  });

  const api = new Set<string>(apiFunctions.map(([name]) => name));
  for (const definition of functions) {
    const [schema = '', name = ''] = namesOf(definition.fields['funcname']);
    const body = definition.body as ParsedBody;

    it(`is read as a whole in ${schema}.${name}`, () => {
      const { words, nodes } = countsOf(body);
      expect(nodes).to.deep.equal(words);
    });

    if (body.names.length > 0) {
      it(`means a variable where a column has its name in ${schema}.${name}`, () => {
        expect(body.text).to.match(/^\n#variable_conflict use_variable\n/);
      });
    }

    if (schema === '__extschema__' && api.has(name)) {
      it(`runs ${name} as its caller and with the caller's settings`, () => {
        expect(optionsOf(definition)).not.to.include('security');
        expect(optionsOf(definition)).not.to.include('set');
      });
    }

    if (optionsOf(definition).includes('security')) {
      it(`fixes the search_path of ${schema}.${name}, which runs as its owner`, () => {
        expect(searchPathOf(definition)).to.deep.equal(['pg_catalog', 'pg_temp']);
      });
    }
  }

  for (const [name, sql] of blocks) {
    const body = parseStatement(sql).body as ParsedBody;

    it(`is read as a whole in the block of ${name}`, () => {
      const { words, nodes } = countsOf(body);
      expect(nodes).to.deep.equal(words);
    });

    it(`means a variable where a column has its name in the block of ${name}`, () => {
      expect(body.text).to.match(/^\n#variable_conflict use_variable\n/);
    });
  }
});

describe('complaintsAbout', () => {
  /** A function with this in its body. */
  function withBody(statement: string, declared = 'v pg_catalog.text'): string {
    return `CREATE FUNCTION pgbackground.f(x integer) RETURNS SETOF pg_catalog.text LANGUAGE plpgsql AS $f$
DECLARE ${declared};
BEGIN
  ${statement}
END $f$`;
  }

  it('has nothing to say about a function that names everything', () => {
    const statement = `PERFORM pg_catalog.lower(v) FROM pg_catalog.pg_class AS c
      WHERE c.oid OPERATOR(pg_catalog.=) ANY (ARRAY[x]) AND CASE WHEN v IS NULL THEN true END;`;
    expect(complaintsAbout(withBody(statement))).to.deep.equal([]);
  });

  const planted: readonly (readonly [complaint: string, statement: string])[] = [
    ['function lower', 'PERFORM lower(v);'],
    ['function public.lower', 'PERFORM public.lower(v);'],
    ['function lower', "v := lower('A');"],
    ['function lower', 'IF lower(v) IS NULL THEN RETURN; END IF;'],
    ['function lower', 'IF v IS NULL THEN NULL; ELSIF lower(v) IS NULL THEN RETURN; END IF;'],
    ['function lower', 'LOOP EXIT WHEN lower(v) IS NULL; END LOOP;'],
    ['function lower', 'WHILE lower(v) IS NULL LOOP NULL; END LOOP;'],
    ['function count', 'FOR i IN 1 .. count(v) LOOP NULL; END LOOP;'],
    ['function rows', 'FOR v IN SELECT r.v FROM rows() AS r LOOP NULL; END LOOP;'],
    ['function list', 'FOREACH v IN ARRAY list() LOOP NULL; END LOOP;'],
    ['function lower', 'RETURN NEXT lower(v);'],
    ['function lower', 'RETURN QUERY SELECT lower(v);'],
    ['function lower', 'RETURN QUERY EXECUTE lower(v);'],
    ['function lower', "RETURN QUERY EXECUTE 'SELECT $1' USING lower(v);"],
    ['function lower', 'EXECUTE lower(v);'],
    ['function lower', "EXECUTE 'x' USING lower(v);"],
    ['function lower', 'RAISE INFO USING MESSAGE = lower(v);'],
    ['function lower', "RAISE INFO '%', lower(v);"],
    ['function lower', 'BEGIN NULL; EXCEPTION WHEN OTHERS THEN PERFORM lower(v); END;'],
    ['function now', 'DECLARE w pg_catalog.text := now(); BEGIN NULL; END;'],
    ['type text', 'PERFORM x::text;'],
    ['type text', 'DECLARE w text; BEGIN NULL; END;'],
    ['type money', 'PERFORM FROM pgbackground.f() AS (a money);'],
    ['relation pg_class', 'PERFORM c.oid FROM pg_class AS c;'],
    ['relation public.t', 'DELETE FROM public.t;'],
    ['operator +', 'PERFORM x + 1;'],
    ['operator -', 'PERFORM -x;'],
    ['operator public.+', 'PERFORM x OPERATOR(public.+) 1;'],
    ['operator =', 'PERFORM x = ANY (ARRAY[1]);'],
    ['operator =', 'PERFORM x = ANY (SELECT 1);'],
    ['operator <', 'PERFORM c.oid FROM pg_catalog.pg_class AS c ORDER BY c.oid USING <;'],
    ['collation C', 'PERFORM v COLLATE "C";'],
    ['IN', 'PERFORM x IN (1, 2);'],
    ['IN', 'PERFORM x IN (SELECT 1);'],
    ['BETWEEN', 'PERFORM x BETWEEN 1 AND 2;'],
    ['NOT BETWEEN', 'PERFORM x NOT BETWEEN 1 AND 2;'],
    ['DISTINCT', 'PERFORM x IS DISTINCT FROM 1;'],
    ['NOT DISTINCT', 'PERFORM x IS NOT DISTINCT FROM 1;'],
    ['NULLIF', 'PERFORM NULLIF(x, 1);'],
    ['LIKE', "PERFORM v LIKE 'a';"],
    ['ILIKE', "PERFORM v ILIKE 'a';"],
    ['SIMILAR', "PERFORM v SIMILAR TO 'a';"],
    ['simple CASE', 'PERFORM CASE x WHEN 1 THEN 2 END;'],
    ['simple CASE statement', 'CASE x WHEN 1 THEN NULL; END CASE;'],
    ['row comparison', 'PERFORM (x, 1) OPERATOR(pg_catalog.=) (1, 2);'],
    [
      'JOIN USING',
      'PERFORM 1 FROM pg_catalog.pg_class AS a JOIN pg_catalog.pg_class AS b USING (oid);',
    ],
    [
      'NATURAL JOIN',
      'PERFORM 1 FROM pg_catalog.pg_class AS a NATURAL JOIN pg_catalog.pg_class AS b;',
    ],
  ];
  for (const [complaint, statement] of planted) {
    it(`finds ${complaint} in ${statement}`, () => {
      expect(complaintsAbout(withBody(statement))).to.include(complaint);
    });
  }

  it('finds a type without schema in DECLARE', () => {
    expect(complaintsAbout(withBody('NULL;', 'v text'))).to.deep.equal(['type text']);
  });

  it('finds a default that calls a function without schema', () => {
    const sql =
      'CREATE FUNCTION pgbackground.f(x pg_catalog.text DEFAULT lower(1)) RETURNS void LANGUAGE plpgsql AS $f$ BEGIN END $f$';
    expect(complaintsAbout(sql)).to.deep.equal(['function lower']);
  });

  const outside: readonly (readonly [complaint: string, sql: string])[] = [
    ['function f', 'CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $f$ BEGIN END $f$'],
    ['type text', 'CREATE TYPE pgbackground.t AS (a text)'],
    ['relation t', 'CREATE TYPE t AS (a integer)'],
    ['relation t', 'CREATE TABLE t (a integer)'],
    ['relation v', 'CREATE VIEW v AS SELECT 1 AS a'],
    ['operator +', 'CREATE VIEW pgbackground.v AS SELECT 1 + 1 AS a'],
    ['function f', 'REVOKE ALL ON FUNCTION f() FROM PUBLIC'],
    ['function f', "COMMENT ON FUNCTION f() IS 'x'"],
    ['function lower', "DO $$ BEGIN PERFORM lower('A'); END $$"],
  ];
  for (const [complaint, sql] of outside) {
    it(`finds ${complaint} in ${sql}`, () => {
      expect(complaintsAbout(sql)).to.deep.equal([complaint]);
    });
  }
});

describe('countsOf', () => {
  function countsIn(statement: string) {
    return countsOf(parseStatement(`DO $$ BEGIN ${statement} END $$`).body as ParsedBody);
  }

  it('counts the same in words and in the tree', () => {
    const { words, nodes } = countsIn(
      "IF 1 OPERATOR(pg_catalog.=) 2 THEN PERFORM pg_catalog.now(); END IF; -- a.b( OPERATOR(\nRAISE INFO 'a.b(';",
    );
    expect([words, nodes]).to.deep.equal([
      { operators: 1, calls: 1 },
      { operators: 1, calls: 1 },
    ]);
  });

  it('counts differently where an operator is written without its schema', () => {
    const { words, nodes } = countsIn('PERFORM 1 = 2;');
    expect(words).not.to.deep.equal(nodes);
  });
});
