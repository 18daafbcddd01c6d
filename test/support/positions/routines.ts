import { expect } from 'chai';
import { lineQuery, placeholders, plpgsqlCall, type Call } from '../call-forms.ts';
import { asLines, seenLines, type Position, type Situation } from './position.ts';

/** Calls inside of functions, procedures and triggers. */

const parameterTypes = ({ args }: Call) => args.map(({ type }) => type).join(', ');

/** PL/pgSQL that makes the calls one after the other. */
const inTurn = ({ calls }: Situation, between = '') =>
  calls.map((call, number) => plpgsqlCall(call, number)).join(between);

/** Calls the function pg_temp.called with the arguments of each call. */
async function linesOfFunction({ session, calls }: Situation): Promise<string[][]> {
  const given: string[][] = [];
  for (const { args } of calls) {
    const values = args.map(({ type, value }) => `'${value.replaceAll("'", "''")}'::${type}`);
    given.push(asLines(await session.rows(`SELECT * FROM pg_temp.called(${values.join(', ')})`)));
  }
  return given;
}

export const routinePositions: readonly Position[] = [
  {
    name: 'DO block',
    calls: 2,
    async run(situation) {
      await situation.session.rows(
        `DO $do$ DECLARE line text; BEGIN ${inTurn(situation)} END $do$`,
      );
      return seenLines(situation);
    },
  },
  {
    name: 'PL/pgSQL function',
    calls: 2,
    async run(situation) {
      const { session, call } = situation;
      await session.rows(
        `CREATE FUNCTION pg_temp.called(${parameterTypes(call)}) RETURNS SETOF text LANGUAGE plpgsql AS $function$
         BEGIN RETURN QUERY ${lineQuery(call, placeholders(call))}; END $function$`,
      );
      return linesOfFunction(situation);
    },
  },
  {
    name: 'PL/pgSQL EXECUTE',
    async run(situation) {
      const { session, call } = situation;
      const values = [`$query$${lineQuery(call, placeholders(call))}$query$`];
      if (call.args.length > 0) {
        values.push(`USING ${call.args.map((_, index) => `$${index + 1}`).join(', ')}`);
      }
      await session.rows(
        `CREATE FUNCTION pg_temp.called(${parameterTypes(call)}) RETURNS SETOF text LANGUAGE plpgsql AS $function$
         BEGIN RETURN QUERY EXECUTE ${values.join(' ')}; END $function$`,
      );
      return linesOfFunction(situation);
    },
  },
  {
    name: 'procedure with COMMIT between calls',
    calls: 3,
    async run(situation) {
      const { session } = situation;
      await session.rows(
        `CREATE PROCEDURE pg_temp.called() LANGUAGE plpgsql AS $procedure$
         DECLARE line text;
         BEGIN ${inTurn(situation, ' COMMIT; ')} COMMIT; END $procedure$`,
      );
      await session.rows('CALL pg_temp.called()');
      return seenLines(situation);
    },
  },
  {
    name: 'trigger',
    calls: 2,
    async run(situation) {
      const { session, calls } = situation;
      const choices = calls.map(
        (call, number) => `IF NEW.number = ${number} THEN ${plpgsqlCall(call, number)} END IF;`,
      );
      await session.rows(
        `CREATE FUNCTION pg_temp.called() RETURNS trigger LANGUAGE plpgsql AS $function$
         DECLARE line text;
         BEGIN ${choices.join(' ')} RETURN NEW; END $function$;
         CREATE TEMP TABLE watched (number int);
         CREATE TRIGGER called BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION pg_temp.called()`,
      );
      await session.rows('INSERT INTO watched VALUES (0), (1)');
      return seenLines(situation);
    },
  },
  {
    name: 'deferred constraint trigger',
    async run(situation) {
      const { session, call } = situation;
      await session.rows(
        `CREATE FUNCTION pg_temp.called() RETURNS trigger LANGUAGE plpgsql AS $function$
         DECLARE line text;
         BEGIN ${plpgsqlCall(call, 0)} RETURN NEW; END $function$;
         CREATE TEMP TABLE watched (number int);
         CREATE CONSTRAINT TRIGGER called AFTER INSERT ON watched DEFERRABLE INITIALLY DEFERRED
           FOR EACH ROW EXECUTE FUNCTION pg_temp.called()`,
      );
      await session.rows('BEGIN; INSERT INTO watched VALUES (0)');
      expect(await session.rows('SELECT * FROM seen'), 'before COMMIT').to.deep.equal([]);
      await session.rows('COMMIT');
      return seenLines(situation);
    },
  },
  {
    name: 'SQL function',
    calls: 2,
    async run(situation) {
      const { session, call } = situation;
      await session.rows(
        `CREATE FUNCTION pg_temp.called(${parameterTypes(call)}) RETURNS SETOF text LANGUAGE sql
         AS $function$ ${lineQuery(call, placeholders(call))} $function$`,
      );
      return linesOfFunction(situation);
    },
  },
  {
    name: 'function with a SET clause',
    async run(situation) {
      const { session, call } = situation;
      await session.rows(
        `CREATE FUNCTION pg_temp.called(${parameterTypes(call)}) RETURNS SETOF text LANGUAGE plpgsql
         SET search_path = pg_catalog SET work_mem = '1MB' SET lock_timeout = '5s' AS $function$
         BEGIN RETURN QUERY ${lineQuery(call, placeholders(call))}; END $function$`,
      );
      return linesOfFunction(situation);
    },
  },
  {
    name: 'EXCEPTION block, after a call that failed',
    async run(situation) {
      const { session, call, mistake } = situation;
      await session.rows(
        `DO $do$ DECLARE line text; code text;
         BEGIN
           BEGIN
             ${plpgsqlCall(mistake.call, 9)}
           EXCEPTION WHEN OTHERS THEN
             code := SQLSTATE;
             ${plpgsqlCall(call, 0)}
           END;
           INSERT INTO seen VALUES (8, code);
         END $do$`,
      );
      expect(
        await session.rows('SELECT call, line FROM seen WHERE call > 7'),
        'the call that must fail',
      ).to.deep.equal([['8', mistake.code]]);
      return seenLines(situation);
    },
  },
  {
    name: 'block whose subtransaction is rolled back',
    async run({ session, call }) {
      // The variable outlives what the block has done to tables.
      const collect =
        call.record === undefined
          ? `lines := ARRAY[(${lineQuery(call)})]`
          : `lines := ARRAY(${lineQuery(call)})`;
      await session.rows(
        `CREATE FUNCTION pg_temp.called() RETURNS SETOF text LANGUAGE plpgsql AS $function$
         DECLARE lines text[];
         BEGIN
           BEGIN
             ${collect};
             RAISE division_by_zero;
           EXCEPTION WHEN division_by_zero THEN
             RETURN QUERY SELECT unnest(lines);
           END;
         END $function$`,
      );
      return [asLines(await session.rows('SELECT * FROM pg_temp.called()'))];
    },
  },
];
