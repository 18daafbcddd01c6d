import { expect } from 'chai';
import { Interceptor, type InterceptorLinks } from '../../proxy/interceptor.ts';
import type { MessageFilter } from '../../proxy/message-filter.ts';
import { createStatement, type BackgroundSession } from '../../src/index.ts';
import { byteByByte, everyCut } from '../support/cuts.ts';
import {
  bytes,
  commandComplete,
  dataRow,
  int32,
  message,
  parameterStatus,
  parse,
  query,
  readyForQuery,
  report,
} from '../support/messages.ts';

/** A session of the engine that notes what it is told, and may answer to it. */
class ScriptedSession {
  readonly heard: string[] = [];
  onReceive: (text: string) => void = () => {};

  receive(text: string): void {
    this.heard.push(text);
    this.onReceive(text);
  }

  statementEnded(): void {
    this.heard.push('-- statement ended');
  }

  newGrantToken(): string {
    return 'grant.token';
  }
}

const noLinks: InterceptorLinks = {
  onBackendKey: () => {},
  onAltered: () => {},
  onDatabaseStatement: () => {},
  toServer: () => {},
  toClient: () => true,
  clientDrained: () => Promise.resolve(),
  replayClient: () => {},
};

function pass(filter: MessageFilter, ...chunks: readonly Buffer[]): Buffer {
  const forwarded: Buffer[] = [];
  for (const chunk of chunks) filter.push(chunk, (part) => forwarded.push(Buffer.from(part)));
  return Buffer.concat(forwarded);
}

/** An interceptor with its session, and what the server reports at the start. */
function intercept(parameters: Readonly<Record<string, string>> = {}) {
  const session = new ScriptedSession();
  const pids: number[] = [];
  const interceptor = new Interceptor({ ...noLinks, onBackendKey: (pid) => void pids.push(pid) });
  interceptor.session = session as unknown as BackgroundSession;
  const all = {
    client_encoding: 'UTF8',
    server_encoding: 'UTF8',
    standard_conforming_strings: 'on',
    ...parameters,
  };
  for (const [name, value] of Object.entries(all))
    pass(interceptor.fromServer, parameterStatus(name, value));
  return { interceptor, session, pids };
}

const callback = report('N', 'SINFO', 'VINFO', 'CPGBG0', 'MW AAAABBBBCCCCDDDD', 'Fpl_exec.c');
const foreignNotice = report('N', 'SNOTICE', 'VNOTICE', 'C00000', 'Mpg_background says PGBG0');
const own = 'WPL/pgSQL function pgbackground.call(text,json,text) line 55 at RAISE';

describe('Interceptor', () => {
  describe('callbacks', () => {
    const stream = Buffer.concat([
      dataRow('1'),
      callback,
      foreignNotice,
      commandComplete('SELECT 1'),
    ]);
    const without = Buffer.concat([dataRow('1'), foreignNotice, commandComplete('SELECT 1')]);

    it('are taken out of the stream and handed to the session', () => {
      const { interceptor, session } = intercept();
      expect(pass(interceptor.fromServer, stream)).to.deep.equal(without);
      expect(session.heard).to.deep.equal(['W AAAABBBBCCCCDDDD']);
    });

    it('are taken out wherever the stream is cut', () => {
      for (const cut of everyCut(stream)) {
        const { interceptor, session } = intercept();
        expect(pass(interceptor.fromServer, ...cut)).to.deep.equal(without);
        expect(session.heard).to.deep.equal(['W AAAABBBBCCCCDDDD']);
      }
    });

    it('are taken out byte by byte', () => {
      const { interceptor, session } = intercept();
      expect(pass(interceptor.fromServer, ...byteByByte(stream))).to.deep.equal(without);
      expect(session.heard).to.deep.equal(['W AAAABBBBCCCCDDDD']);
    });

    it('are handed on one after the other', () => {
      const { interceptor, session } = intercept();
      const second = report('N', 'CPGBG0', 'MA AAAABBBBCCCCDDDD 1');
      pass(interceptor.fromServer, Buffer.concat([callback, second]));
      expect(session.heard).to.deep.equal(['W AAAABBBBCCCCDDDD', 'A AAAABBBBCCCCDDDD 1']);
    });

    it('are handed on as bytes, one character each', () => {
      const { interceptor, session } = intercept();
      pass(interceptor.fromServer, report('N', 'CPGBG0', 'M\xc3\xa9'));
      expect(session.heard).to.deep.equal(['\xc3\xa9']);
    });

    it('are known where a long severity comes first', () => {
      const { interceptor, session } = intercept();
      const late = report('N', `S${'x'.repeat(1000)}`, 'VINFO', 'CPGBG0', 'Mlate');
      expect(pass(interceptor.fromServer, ...byteByByte(late))).to.have.length(0);
      expect(session.heard).to.deep.equal(['late']);
    });

    it('are taken out, and lost, in a connection without session', () => {
      const interceptor = new Interceptor(noLinks);
      expect(pass(interceptor.fromServer, stream)).to.deep.equal(without);
    });

    it('end the statement when they are too large to be held, and are dropped', () => {
      const { interceptor, session } = intercept();
      const beginning = bytes('SINFO\0CPGBG0\0M');
      const header = Buffer.concat([bytes('N'), int32(64 * 1024 * 1024)]);
      const forwarded = pass(
        interceptor.fromServer,
        Buffer.concat([header, beginning]),
        bytes('R'.repeat(200)),
      );
      expect(forwarded).to.have.length(0);
      expect(session.heard).to.deep.equal(['-- statement ended']);
    });
  });

  describe('notices of others', () => {
    it('pass unchanged wherever they are cut', () => {
      for (const cut of everyCut(foreignNotice)) {
        const { interceptor } = intercept();
        expect(pass(interceptor.fromServer, ...cut)).to.deep.equal(foreignNotice);
      }
    });

    it('pass when they have no SQLSTATE', () => {
      const { interceptor } = intercept();
      const bare = report('N', 'MPGBG0');
      expect(pass(interceptor.fromServer, bare)).to.deep.equal(bare);
    });

    it('pass when their SQLSTATE only begins like ours', () => {
      const { interceptor, session } = intercept();
      const similar = report('N', 'CPGBG00', 'Mx');
      expect(pass(interceptor.fromServer, similar)).to.deep.equal(similar);
      expect(session.heard).to.deep.equal([]);
    });

    it('pass before they are there as a whole', () => {
      const { interceptor } = intercept();
      const long = report('N', 'C00000', `M${'x'.repeat(100_000)}`);
      expect(pass(interceptor.fromServer, long.subarray(0, 1000))).to.have.length(1000);
    });

    it('pass with our context when none was announced', () => {
      const { interceptor } = intercept();
      const notice = report('N', 'C00000', 'Mx', own);
      expect(pass(interceptor.fromServer, notice)).to.deep.equal(notice);
    });
  });

  describe('announced notices', () => {
    const raisedNotice = report('N', 'SNOTICE', 'VNOTICE', 'C00000', 'Mfrom the worker', 'D', own);
    const fromWorker = { severity: 'NOTICE', code: '00000', message: 'from the worker' };

    it('lose our context and empty fields, and name their worker', () => {
      const { interceptor } = intercept();
      interceptor.noticesRaised([fromWorker], 7);
      expect(pass(interceptor.fromServer, raisedNotice)).to.deep.equal(
        report(
          'N',
          'SNOTICE',
          'VNOTICE',
          'C00000',
          'Mfrom the worker',
          'Wbackground worker, pid 7',
        ),
      );
    });

    it('are still told from callbacks', () => {
      const { interceptor, session } = intercept();
      interceptor.noticesRaised([fromWorker], 7);
      expect(pass(interceptor.fromServer, callback)).to.have.length(0);
      expect(session.heard).to.have.length(1);
    });

    it('are expected until the statement ends', () => {
      const { interceptor } = intercept();
      interceptor.noticesRaised([fromWorker], 7);
      pass(interceptor.fromServer, readyForQuery());
      expect(pass(interceptor.fromServer, raisedNotice)).to.deep.equal(raisedNotice);
    });
  });

  describe('the tag of a replaced statement', () => {
    const tagMessage = report('N', 'CPGBG0', 'MT grant.token CREATE EXTENSION');
    const stream = Buffer.concat([tagMessage, commandComplete('DO'), readyForQuery()]);

    it('stands where the tag of the block stood, wherever the stream is cut', () => {
      for (const cut of everyCut(stream)) {
        const { interceptor, session } = intercept();
        session.onReceive = () => interceptor.tagReplaced('CREATE EXTENSION');
        expect(pass(interceptor.fromServer, ...cut)).to.deep.equal(
          Buffer.concat([commandComplete('CREATE EXTENSION'), readyForQuery()]),
        );
      }
    });

    it('replaces one tag only', () => {
      const { interceptor } = intercept();
      interceptor.tagReplaced('CREATE EXTENSION');
      expect(
        pass(interceptor.fromServer, commandComplete('DO'), commandComplete('DO')),
      ).to.deep.equal(Buffer.concat([commandComplete('CREATE EXTENSION'), commandComplete('DO')]));
    });

    it('replaces no tag but that of a DO block', () => {
      const { interceptor } = intercept();
      interceptor.tagReplaced('CREATE EXTENSION');
      const selected = commandComplete('SELECT 1');
      expect(pass(interceptor.fromServer, selected)).to.deep.equal(selected);
    });

    it('is forgotten when the statement ends without one', () => {
      const { interceptor } = intercept();
      interceptor.tagReplaced('CREATE EXTENSION');
      pass(interceptor.fromServer, readyForQuery());
      expect(pass(interceptor.fromServer, commandComplete('DO'))).to.deep.equal(
        commandComplete('DO'),
      );
    });

    it('leaves other tags alone when nothing was replaced', () => {
      const { interceptor } = intercept();
      expect(pass(interceptor.fromServer, commandComplete('DO'))).to.deep.equal(
        commandComplete('DO'),
      );
    });
  });

  describe('errors', () => {
    const error = { severity: 'ERROR', code: '22012', message: 'division by zero' };
    const frame = report('E', 'SERROR', 'C22012', 'Mdivision by zero', 'D', own);

    it('that a function was told to raise name the worker', () => {
      const { interceptor } = intercept();
      interceptor.errorRaised(error, 4711);
      expect(pass(interceptor.fromServer, frame)).to.deep.equal(
        report('E', 'SERROR', 'C22012', 'Mdivision by zero', 'Wbackground worker, pid 4711'),
      );
    });

    it('of our functions lose our context without having been announced', () => {
      const { interceptor } = intercept();
      expect(pass(interceptor.fromServer, frame)).to.deep.equal(
        report('E', 'SERROR', 'C22012', 'Mdivision by zero'),
      );
    });

    it('of a call that got no answer say why', () => {
      const { interceptor } = intercept();
      interceptor.unanswered({ severity: 'FATAL', code: '53300', message: 'too many clients' });
      const unanswered = report('E', 'C53000', 'Mno answer', 'Din time', own);
      expect(pass(interceptor.fromServer, unanswered)).to.deep.equal(
        report('E', 'C53000', 'Mno answer', 'Dtoo many clients'),
      );
    });

    it('of a later statement do not say why an earlier call got no answer', () => {
      const { interceptor } = intercept();
      interceptor.unanswered({ severity: 'FATAL', code: '53300', message: 'too many clients' });
      pass(interceptor.fromServer, readyForQuery());
      const unanswered = report('E', 'C53000', 'Mno answer', 'Din time', own);
      expect(pass(interceptor.fromServer, unanswered)).to.deep.equal(
        report('E', 'C53000', 'Mno answer', 'Din time'),
      );
    });

    describe('in a replaced statement', () => {
      const inBlock = report('E', 'C42501', 'Mdenied', 'WPL/pgSQL function inline_code_block');

      it('lose the context of its block', () => {
        const { interceptor } = intercept();
        interceptor.replacementBegan();
        expect(pass(interceptor.fromServer, inBlock)).to.deep.equal(
          report('E', 'C42501', 'Mdenied'),
        );
      });

      it('keep theirs when they come behind it in the batch', () => {
        const { interceptor } = intercept();
        interceptor.replacementBegan();
        interceptor.tagReplaced('CREATE EXTENSION');
        expect(pass(interceptor.fromServer, inBlock)).to.deep.equal(inBlock);
      });

      it('keep theirs in a later statement', () => {
        const { interceptor } = intercept();
        interceptor.replacementBegan();
        pass(interceptor.fromServer, readyForQuery());
        expect(pass(interceptor.fromServer, inBlock)).to.deep.equal(inBlock);
      });
    });

    it('of others pass unchanged wherever they are cut', () => {
      const foreign = report('E', 'C42601', 'Msyntax error', 'P8', 'WPL/pgSQL function f()');
      for (const cut of everyCut(foreign)) {
        const { interceptor } = intercept();
        expect(pass(interceptor.fromServer, ...cut)).to.deep.equal(foreign);
      }
    });

    it('of a later statement do not name the worker', () => {
      const { interceptor } = intercept();
      interceptor.errorRaised(error, 4711);
      pass(interceptor.fromServer, readyForQuery());
      expect(pass(interceptor.fromServer, frame).toString('latin1')).not.to.include('4711');
    });

    it('carry texts of the worker where client and database share an encoding', () => {
      const { interceptor } = intercept();
      interceptor.errorRaised({ ...error, where: '\xc3\xa9' }, 4711);
      expect(pass(interceptor.fromServer, frame).toString('latin1')).to.include('W\xc3\xa9\n');
    });

    it('carry no such texts where they do not', () => {
      const { interceptor } = intercept({ client_encoding: 'LATIN1' });
      interceptor.errorRaised({ ...error, where: '\xc3\xa9' }, 4711);
      expect(pass(interceptor.fromServer, frame).toString('latin1')).not.to.include('\xc3\xa9');
    });

    it('pass without being held when they are larger than 1 MiB', () => {
      const { interceptor } = intercept();
      const large = report('E', 'C22012', `M${'x'.repeat(1024 * 1024)}`);
      expect(pass(interceptor.fromServer, large.subarray(0, 1000))).to.have.length(1000);
    });
  });

  describe('the end of a statement', () => {
    it('is told to the session', () => {
      const { interceptor, session } = intercept();
      expect(pass(interceptor.fromServer, readyForQuery())).to.deep.equal(readyForQuery());
      expect(session.heard).to.deep.equal(['-- statement ended']);
    });

    it('is told once, wherever it is cut', () => {
      for (const cut of everyCut(readyForQuery())) {
        const { interceptor, session } = intercept();
        pass(interceptor.fromServer, ...cut);
        expect(session.heard).to.deep.equal(['-- statement ended']);
      }
    });
  });

  it('tells the pid of the backend and forwards its key', () => {
    const { interceptor, pids } = intercept();
    const key = message('K', int32(4711), int32(-5));
    expect(pass(interceptor.fromServer, ...byteByByte(key))).to.deep.equal(key);
    expect(pids).to.deep.equal([4711]);
  });

  it('forwards parameters as they are', () => {
    const { interceptor } = intercept();
    const parameter = parameterStatus('application_name', '\xe9');
    expect(pass(interceptor.fromServer, parameter)).to.deep.equal(parameter);
  });

  describe('towards the server', () => {
    const statement = 'create extension PG_Background';
    const block = createStatement({
      grantToken: 'grant.token',
      original: statement,
      schema: undefined,
      ifNotExists: false,
    });

    it('replaces CREATE EXTENSION wherever the stream is cut', () => {
      const stream = Buffer.concat([query('SELECT 1'), query(statement), query('SELECT 2')]);
      for (const cut of everyCut(stream)) {
        const { interceptor } = intercept();
        expect(pass(interceptor.fromClient, ...cut)).to.deep.equal(
          Buffer.concat([query('SELECT 1'), query(block), query('SELECT 2')]),
        );
      }
    });

    it('replaces CREATE EXTENSION in a Parse message', () => {
      const { interceptor } = intercept();
      expect(pass(interceptor.fromClient, parse('name', statement))).to.deep.equal(
        parse('name', block),
      );
    });

    it('forwards a chunk itself when it does not name the extension', () => {
      const { interceptor } = intercept();
      const chunk = Buffer.concat([query('SELECT 1'), message('S')]);
      const parts: Buffer[] = [];
      interceptor.fromClient.push(chunk, (part) => parts.push(part));
      expect(parts[0]).to.equal(chunk);
    });

    for (const sql of [
      'CREATE DATABASE a TEMPLATE b',
      'create/* a copy */database a',
      'ALTER DATABASE a RENAME TO b',
      'DROP DATABASE a WITH (FORCE)',
    ]) {
      it(`tells that ${sql} may want a database for itself, and forwards it`, () => {
        for (const pad of Array.from({ length: 256 }, (_, length) => ' '.repeat(length))) {
          for (const text of [query(sql + pad), parse('', sql + pad), parse('name', sql + pad)]) {
            let count = 0;
            const interceptor = new Interceptor({
              ...noLinks,
              onDatabaseStatement: () => void count++,
            });
            pass(interceptor.fromServer, parameterStatus('client_encoding', 'UTF8'));
            pass(interceptor.fromServer, parameterStatus('standard_conforming_strings', 'on'));
            expect(pass(interceptor.fromClient, text)).to.deep.equal(text);
            expect(count).to.equal(1);
          }
        }
      });
    }

    it('does not take a question about databases for a statement about them', () => {
      let count = 0;
      const interceptor = new Interceptor({ ...noLinks, onDatabaseStatement: () => void count++ });
      pass(interceptor.fromServer, parameterStatus('client_encoding', 'UTF8'));
      pass(interceptor.fromServer, parameterStatus('standard_conforming_strings', 'on'));
      pass(interceptor.fromClient, query('SELECT current_database(), datname FROM pg_database'));
      pass(interceptor.fromClient, query('SELECT 1 AS database'));
      expect(count).to.equal(0);
    });

    it('forwards a call of a function of ours as it is', () => {
      const { interceptor } = intercept();
      const call = query("SELECT pg_background_launch('SELECT 1')");
      expect(pass(interceptor.fromClient, call)).to.deep.equal(call);
    });

    it('looks into no message but Query and Parse', () => {
      const { interceptor } = intercept();
      const bind = message('B', bytes(`${statement}\0\0`));
      expect(pass(interceptor.fromClient, bind)).to.deep.equal(bind);
    });

    it('looks into no text above 1 MiB', () => {
      const { interceptor } = intercept();
      const long = query(`${statement}; SELECT '${'x'.repeat(1024 * 1024)}'`);
      expect(pass(interceptor.fromClient, long).equals(long)).to.equal(true);
    });

    it('forwards such a text before it is there as a whole', () => {
      const { interceptor } = intercept();
      const long = query(`${statement}; SELECT '${'x'.repeat(1024 * 1024)}'`);
      expect(pass(interceptor.fromClient, long.subarray(0, 1000))).to.have.length(1000);
    });

    it('replaces nothing in a connection without session', () => {
      const interceptor = new Interceptor(noLinks);
      pass(interceptor.fromServer, parameterStatus('client_encoding', 'UTF8'));
      pass(interceptor.fromServer, parameterStatus('standard_conforming_strings', 'on'));
      expect(pass(interceptor.fromClient, query(statement))).to.deep.equal(query(statement));
    });

    const unreadable: Readonly<Record<string, Readonly<Record<string, string>>>> = {
      'while backslashes escape in plain texts': { standard_conforming_strings: 'off' },
      'in an encoding whose characters may contain ASCII bytes': { client_encoding: 'SJIS' },
      'in an encoding that it does not know': { client_encoding: 'UTF-8' },
    };
    for (const [what, parameters] of Object.entries(unreadable)) {
      it(`replaces nothing ${what}`, () => {
        const { interceptor } = intercept(parameters);
        expect(pass(interceptor.fromClient, query(statement))).to.deep.equal(query(statement));
      });
    }

    it('replaces nothing before the server has said how to read texts', () => {
      const interceptor = new Interceptor(noLinks);
      interceptor.session = new ScriptedSession() as unknown as BackgroundSession;
      expect(pass(interceptor.fromClient, query(statement))).to.deep.equal(query(statement));
    });

    it('follows a change of encoding', () => {
      const { interceptor } = intercept({ client_encoding: 'SJIS' });
      pass(interceptor.fromServer, parameterStatus('client_encoding', 'LATIN1'));
      expect(pass(interceptor.fromClient, query(statement))).to.deep.equal(query(block));
    });

    for (const encoding of [
      'UTF8',
      'SQL_ASCII',
      'LATIN1',
      'LATIN10',
      'ISO_8859_5',
      'WIN1252',
      'KOI8R',
    ]) {
      it(`reads texts in ${encoding}`, () => {
        const { interceptor } = intercept({ client_encoding: encoding });
        expect(pass(interceptor.fromClient, query(statement))).to.deep.equal(query(block));
      });
    }
  });
});
