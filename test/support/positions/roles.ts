import { lineQuery, literal, plainQuery } from '../call-forms.ts';
import { asLines, NO_ROWS, type Position } from './position.ts';

/** Calls by roles other than the superuser, and inside of functions that change the role. */

/**
 * Roles and functions for these positions: position_clerk logs in, position_trainee is a role
 * that he can become, position_deputy has his privileges, position_stranger has none of them.
 */
export const ROLES = ['position_clerk', 'position_trainee', 'position_deputy', 'position_stranger'];
export const CREATE_ROLES = [
  'CREATE ROLE position_clerk LOGIN',
  'CREATE ROLE position_trainee NOLOGIN',
  'CREATE ROLE position_deputy NOLOGIN',
  'CREATE ROLE position_stranger NOLOGIN',
  `GRANT pgbackground_executor TO ${ROLES.join(', ')}`,
  'GRANT position_trainee TO position_clerk',
  'GRANT position_clerk TO position_deputy',
  ...['clerk', 'deputy', 'stranger'].flatMap((who) => [
    `CREATE FUNCTION as_${who}(query text) RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER
       AS $$ BEGIN RETURN QUERY EXECUTE query; END $$`,
    `ALTER FUNCTION as_${who} OWNER TO position_${who}`,
  ]),
].join(';\n');

function definedBy(who: string): Pick<Position, 'user' | 'role' | 'run'> {
  return {
    user: 'position_clerk',
    role: 'position_clerk',
    run: async ({ session, call }) => [
      asLines(await session.rows(`SELECT * FROM as_${who}(${literal(lineQuery(call))})`)),
    ],
  };
}

export const rolePositions: readonly Position[] = [
  {
    name: 'session of a role that is no superuser',
    user: 'position_clerk',
    role: 'position_clerk',
    run: async ({ session, call }) => [asLines(await session.rows(plainQuery(call)))],
  },
  {
    name: 'after SET ROLE',
    user: 'position_clerk',
    role: 'position_trainee',
    setUp: (session) => session.rows('SET ROLE position_trainee'),
    run: async ({ session, call }) => [asLines(await session.rows(plainQuery(call)))],
  },
  {
    name: 'after SET SESSION AUTHORIZATION',
    role: 'position_clerk',
    setUp: (session) => session.rows('SET SESSION AUTHORIZATION position_clerk'),
    run: async ({ session, call }) => [asLines(await session.rows(plainQuery(call)))],
  },
  { name: 'SECURITY DEFINER function of the login role', ...definedBy('clerk') },
  {
    name: 'SECURITY DEFINER function of a role with the privileges of the login role',
    ...definedBy('deputy'),
    refusal: ({ launches }) => (launches ? '42501' : undefined),
  },
  {
    name: 'SECURITY DEFINER function of a role without them',
    ...definedBy('stranger'),
    refusal: ({ name }) => (name === 'pg_background_list_v2' ? NO_ROWS : '42501'),
  },
];
