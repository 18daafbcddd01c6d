import { randomBytes } from 'node:crypto';
import { expect } from 'chai';
import type pg from 'pg';
import { inBackground } from './background.ts';
import { eventually } from './eventually.ts';
import type { TestClient, TestProxy } from './proxy.ts';

/**
 * What an attacker can do with the callback channel: notices with its SQLSTATE, written by hand and
 * with nothing of the code under test.
 */

/** A request, cut at its spaces, and its context at its commas. */
export interface Request {
  readonly context: readonly string[];
  readonly header: string;
  readonly payload: string;
  readonly mac: string;
}

/** The places in a context. */
export const CONTEXT = {
  version: 0,
  kind: 1,
  keyId: 2,
  pid: 3,
  number: 4,
  role: 5,
  roleOid: 6,
  privileges: 7,
  token: 8,
} as const;

export type ContextPart = keyof typeof CONTEXT;

export function textOf({ context, header, payload, mac }: Request): string {
  return ['R', context.join(','), header, payload, mac].join(' ');
}

export function requestOf(text: string): Request {
  const [, context = '', header = '', payload = '', mac = ''] = text.split(' ');
  return { context: context.split(','), header, payload, mac };
}

/** The same request with another part of its context. */
export function withPart(request: Request, part: ContextPart, value: string): Request {
  return { ...request, context: request.context.with(CONTEXT[part], value) };
}

export function partOf({ context }: Request, part: ContextPart): string {
  return context[CONTEXT[part]] ?? '';
}

export const hexOf = (text: string) => Buffer.from(text).toString('hex');

/** A header that asks for an answer, so that the request is not only a report. */
export function newHeader(): string {
  return `${randomBytes(12).toString('base64')},${randomBytes(32).toString('hex')},0,1`;
}

/** Base64 of JSON that is written as it stands, escapes included. */
export function payloadOf(verb: string, args: object | string): string {
  const json = typeof args === 'string' ? args : JSON.stringify(args);
  return Buffer.from(`{"verb":${JSON.stringify(verb)},"arguments":${json}}`).toString('base64');
}

/** What a launching function asks. */
export function launchOf(sql: string, more: object = {}): string {
  return payloadOf('pg_background_launch_v2', {
    sql,
    queueSize: 0,
    settings: {},
    custom: {},
    ...more,
  });
}

/** SQL that signs header and payload, $1, for whoever may read the view: nothing else is needed. */
export function signing(view: 'free_signature' | 'bound_signature' = 'free_signature'): string {
  return `SELECT concat('R ', s.context, ' ', $1::text, ' ',
      encode(sha256(s.signing_key || sha256(s.signing_key || convert_to($1::text, 'UTF8'))), 'hex'))
    FROM pgbackground.${view} AS s`;
}

/** A genuine request of the session's current role. */
export async function sign(
  client: TestClient,
  payload: string,
  header = newHeader(),
): Promise<Request> {
  return requestOf(String(await client.value(signing(), [`${header} ${payload}`])));
}

/** The best that somebody can make up who may read nothing: only the key is missing. */
export async function makeUp(client: TestClient, payload: string): Promise<Request> {
  const context = await client.value(
    `SELECT concat_ws(',', 'v1', 'free', substring(obj_description(n.oid, 'pg_namespace'), 'key ([0-9a-f-]{36})$'),
        pg_backend_pid(), floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
        encode(convert_to(current_user::text, 'UTF8'), 'hex'), current_user::regrole::oid, repeat('t', 15),
        current_setting('pgbg_proxy.session'))
       FROM pg_namespace AS n WHERE n.nspname = 'pgbackground'`,
  );
  return {
    context: String(context).split(','),
    header: newHeader(),
    payload,
    mac: randomBytes(32).toString('hex'),
  };
}

/** Held while a statement that raised a request must not end. */
const HOLD_KEY = 4713;

/** A block that raises callback notices, one after the other, and then waits while play() holds it. */
export function raising(texts: readonly string[]): string {
  const raises = texts.map(
    (text) => `RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = $text$${text}$text$;`,
  );
  return `DO $attack$ BEGIN ${raises.join('\n')} PERFORM pg_advisory_xact_lock_shared(${HOLD_KEY}); END $attack$`;
}

/** What the proxy has done with a request that was raised by hand. */
export interface Outcome {
  /** What it has logged meanwhile. */
  readonly logged: readonly string[];
  /** Whether it has answered. */
  readonly isAnswered: boolean;
}

/**
 * Raises a request by hand. A request ends with its statement, so that stays open until the proxy
 * has decided: it has logged something, or it answers.
 */
export async function play(
  proxy: TestProxy,
  client: TestClient,
  request: Request,
): Promise<Outcome> {
  return playText(proxy, client, textOf(request), request.header.slice(0, 16));
}

export async function playText(
  proxy: TestProxy,
  client: TestClient,
  text: string,
  nonce = 'no nonce',
): Promise<Outcome> {
  const observer = await proxy.database.direct();
  await observer.query('SELECT pg_advisory_lock($1)', [HOLD_KEY]);
  const before = proxy.log.length;
  // What was shown last stays in application_name: an answer to the same request, raised before, is none to this.
  const shownBefore = new Set(await shownFor(observer, nonce));
  let isAnswered = false;
  const statement = client.query(raising([text]));
  try {
    await eventually(async () => {
      isAnswered = (await shownFor(observer, nonce)).some((packet) => !shownBefore.has(packet));
      expect(isAnswered || proxy.log.length > before, 'the proxy has decided').to.equal(true);
    });
  } finally {
    await observer.query('SELECT pg_advisory_unlock($1)', [HOLD_KEY]);
  }
  await statement;
  return { logged: proxy.log.slice(before), isAnswered };
}

/** What backends show that has a packet with a nonce. */
async function shownFor(observer: pg.Client, nonce: string): Promise<string[]> {
  const { rows } = await observer.query<{ packet: string }>(
    `SELECT application_name AS packet FROM pg_stat_activity WHERE starts_with(application_name, $1)
      UNION SELECT query FROM pg_stat_activity WHERE starts_with(query, '--pgbg:') AND strpos(query, $1) > 0`,
    [`pgbg:${nonce}:`],
  );
  return rows.map(({ packet }) => packet);
}

/** Fails when anything was started in a session but the next call, which is answered. */
export async function expectNothingStarted(proxy: TestProxy, client: TestClient): Promise<void> {
  expect(await inBackground(client, 'SELECT 1', 'n int')).to.deep.equal([[1]]);
  expect(await client.value('SELECT workers_launched FROM pg_background_stats_v2()')).to.equal('1');
  expect(await takenBy(proxy), 'who has run forged SQL').to.deep.equal([]);
  expect(client.notices).to.deep.equal([]);
}

/** In whose name forged requests have run SQL: it writes to a table `taken (by text)`. */
export async function takenBy(proxy: TestProxy): Promise<string[]> {
  const direct = await proxy.database.direct();
  try {
    return (await direct.query<{ by: string }>('TABLE taken')).rows.map(({ by }) => by);
  } finally {
    await direct.end(); // who waits for it asks again and again
  }
}
