import { expect } from 'chai';
import { StatementRepeater } from '../../proxy/statement-repeater.ts';
import { bytes, query } from '../support/messages.ts';

/** A repeater, what it sends either way, and a worker that ends when it is told to. */
function repeat() {
  const toServer: Buffer[] = [];
  const toClient: Buffer[] = [];
  const replayed: string[] = [];
  const repeater = new StatementRepeater({
    toServer: (sent) => toServer.push(sent),
    toClient: (sent) => toClient.push(sent),
    replayClient: (chunks) => replayed.push(...chunks.map(String)),
  });
  let endWorker = () => {};
  const ended = new Promise<void>((resolve) => (endWorker = resolve));
  return { repeater, toServer, toClient, replayed, ended, endWorker };
}

const [T, D, C] = ['T', 'D', 'C'].map((letter) => letter.charCodeAt(0)) as [number, number, number];
const tick = () => new Promise((resolve) => setImmediate(resolve));

describe('StatementRepeater', () => {
  it('drops nothing before it begins', () => {
    const { repeater } = repeat();
    expect([T, D, C].map((type) => repeater.drops(type))).to.deep.equal([false, false, false]);
    expect(repeater.isHolding).to.equal(false);
    expect(repeater.ready()).to.equal(false);
  });

  it('drops rows and tag of a statement that leaves, and its end', () => {
    const { repeater, ended } = repeat();
    repeater.begin('SELECT 1', Date.now());
    repeater.repeatAt(ended, 0);
    expect([T, D, C].map((type) => repeater.drops(type))).to.deep.equal([false, true, true]);
    expect(repeater.ready()).to.equal(true);
  });

  it('sends the statement again when the worker has ended, not before', async () => {
    const { repeater, toServer, ended, endWorker } = repeat();
    repeater.begin('SELECT 1', Date.now());
    repeater.repeatAt(ended, 0);
    repeater.ready();
    await tick();
    expect(toServer).to.deep.equal([]);
    endWorker();
    await tick();
    expect(toServer).to.deep.equal([query('SELECT 1')]);
  });

  it('drops the first RowDescription of the second run, and nothing else', async () => {
    const { repeater, ended, endWorker } = repeat();
    repeater.begin('SELECT 1', Date.now());
    repeater.repeatAt(ended, 0);
    repeater.ready();
    endWorker();
    await tick();
    expect(repeater.drops(T)).to.equal(true);
    repeater.dropped();
    expect([T, D, C].map((type) => repeater.drops(type))).to.deep.equal([false, false, false]);
    expect(repeater.ready()).to.equal(false);
  });

  it('gives what the client has sent meanwhile when the statement is over', async () => {
    const { repeater, replayed, ended, endWorker } = repeat();
    repeater.begin('SELECT 1', Date.now());
    expect(repeater.hold(bytes('one'))).to.equal(true);
    repeater.repeatAt(ended, 0);
    repeater.ready();
    repeater.hold(bytes('two'));
    endWorker();
    await tick();
    repeater.ready();
    expect(replayed).to.deep.equal([]);
    repeater.release();
    expect(replayed).to.deep.equal(['one', 'two']);
  });

  it('asks a client to wait that sends more than 64 kB', () => {
    const { repeater } = repeat();
    repeater.begin('SELECT 1', Date.now());
    expect(repeater.hold(Buffer.alloc(65_536))).to.equal(true);
    expect(repeater.hold(Buffer.alloc(1))).to.equal(false);
  });

  it('does not repeat a statement that has failed', () => {
    const { repeater, ended } = repeat();
    repeater.begin('SELECT 1', Date.now());
    repeater.repeatAt(ended, 0);
    repeater.failed();
    expect(repeater.ready()).to.equal(false);
    expect(repeater.isHolding).to.equal(false);
  });

  it('does not repeat a statement whose function did not leave', () => {
    const { repeater } = repeat();
    repeater.begin('SELECT 1', Date.now());
    expect(repeater.ready()).to.equal(false);
  });

  it('answers a cancel request while nobody else can', async () => {
    const { repeater, toServer, toClient, ended, endWorker } = repeat();
    repeater.begin('SELECT 1', Date.now());
    repeater.repeatAt(ended, 0);
    repeater.ready();
    expect(repeater.cancel()).to.equal(true);
    expect(String(toClient[0])).to.match(/C57014\0Mcanceling statement due to user request\0\0Z/);
    expect(repeater.isHolding).to.equal(false);
    endWorker();
    await tick();
    expect(toServer).to.deep.equal([]);
  });

  it('leaves a cancel request to the server while the statement runs there', () => {
    const { repeater, toClient, ended } = repeat();
    expect(repeater.cancel()).to.equal(false);
    repeater.begin('SELECT 1', Date.now());
    expect(repeater.cancel()).to.equal(false);
    // It came too late for the server, and is not lost.
    repeater.repeatAt(ended, 0);
    repeater.ready();
    expect(String(toClient[0])).to.include('57014');
  });

  it('ends with statement_timeout, counted from the beginning', async () => {
    const { repeater, toClient, ended } = repeat();
    repeater.begin('SELECT 1', Date.now() - 60_000);
    repeater.repeatAt(ended, 59_000);
    repeater.ready();
    while (toClient.length === 0) await tick();
    expect(String(toClient[0])).to.include('canceling statement due to statement timeout');
  });

  it('does nothing more when the session has ended', async () => {
    const { repeater, toServer, toClient, ended, endWorker } = repeat();
    repeater.begin('SELECT 1', Date.now());
    repeater.repeatAt(ended, 60_000);
    repeater.ready();
    repeater.close();
    endWorker();
    await tick();
    expect([...toServer, ...toClient]).to.deep.equal([]);
  });
});
