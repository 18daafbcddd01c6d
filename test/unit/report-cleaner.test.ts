import { expect } from 'chai';
import { cleanReport, type RaisedError } from '../../proxy/report-cleaner.ts';
import { report } from '../support/messages.ts';

const own = 'PL/pgSQL function pgbackground.call(text,json,text) line 55 at RAISE';
const ownApi = 'PL/pgSQL function tools.pg_background_result(integer) line 12 at assignment';
const foreign = 'PL/pgSQL function public.nightly() line 3 at PERFORM';

/** An error of ours, whose context has these lines. */
function raisedReport(...lines: readonly string[]): Buffer {
  return report('E', 'SERROR', 'VERROR', 'C22012', 'Mdivision by zero', `W${lines.join('\n')}`);
}

function raised(more: Partial<RaisedError['error']> = {}): RaisedError {
  return {
    error: { severity: 'ERROR', code: '22012', message: 'division by zero', ...more },
    pid: 7,
  };
}

describe('cleanReport', () => {
  describe('of a report that is not ours', () => {
    const untouched: Readonly<Record<string, Buffer>> = {
      'without context': report('E', 'SERROR', 'C42601', 'Msyntax error', 'D'),
      "with a user's context": raisedReport(foreign),
      'with a function that is only named like ours': raisedReport(
        'PL/pgSQL function public.my_pg_background_job() line 3 at RAISE',
      ),
      'with our name in a text': raisedReport('SQL statement "SELECT \'pgbackground.call(\'"'),
    };
    for (const [what, frame] of Object.entries(untouched)) {
      it(`gives the message itself ${what}`, () => {
        expect(cleanReport(frame, undefined, true)).to.equal(frame);
      });
    }

    it('gives the message itself when a function was told to raise another error', () => {
      const frame = raisedReport(own);
      expect(cleanReport(frame, raised({ code: '42P01' }), true)).to.equal(frame);
    });
  });

  describe('context', () => {
    it('loses the lines of our functions', () => {
      expect(cleanReport(raisedReport(own, ownApi, foreign), undefined, true)).to.deep.equal(
        raisedReport(foreign),
      );
    });

    it('is left out when nothing is left of it', () => {
      expect(cleanReport(raisedReport(own, ownApi), undefined, true)).to.deep.equal(
        report('E', 'SERROR', 'VERROR', 'C22012', 'Mdivision by zero'),
      );
    });

    it("keeps the order of the user's lines", () => {
      const second = 'SQL statement "SELECT nightly()"';
      expect(cleanReport(raisedReport(foreign, own, second), undefined, true)).to.deep.equal(
        raisedReport(foreign, second),
      );
    });

    const ours = [
      'PL/pgSQL assignment "payload := pgbackground.sign(payload)"',
      'SQL statement "SELECT pgbackground.raise_notices(reply)"',
      'SQL expression "SELECT reply := pgbackground.take(verb, pid, cookie)"',
      'PL/pgSQL-Funktion pgbackground.call(text,json,text) Zeile 55 bei RAISE',
    ];
    for (const line of ours) {
      it(`loses the line ${line}`, () => {
        expect(cleanReport(raisedReport(line, foreign), undefined, true)).to.deep.equal(
          raisedReport(foreign),
        );
      });
    }
  });

  it('takes out the empty fields of our RAISE', () => {
    const frame = report('E', 'SERROR', 'C22012', 'Mx', 'D', 'H', 's', 't', `W${own}`);
    expect(cleanReport(frame, undefined, true)).to.deep.equal(
      report('E', 'SERROR', 'C22012', 'Mx'),
    );
  });

  it('keeps the type of a notice', () => {
    const frame = report('N', 'SNOTICE', 'C00000', 'Mx', `W${own}`);
    expect(cleanReport(frame, undefined, true)).to.deep.equal(
      report('N', 'SNOTICE', 'C00000', 'Mx'),
    );
  });

  it('keeps each byte of the fields', () => {
    const frame = report('E', 'C22012', 'M\xe9\xff', `W${own}`);
    expect(cleanReport(frame, undefined, false)).to.deep.equal(report('E', 'C22012', 'M\xe9\xff'));
  });

  describe('of a raised error', () => {
    it('names the worker', () => {
      expect(cleanReport(raisedReport(own), raised(), true)).to.deep.equal(
        raisedReport('background worker, pid 7'),
      );
    });

    it("puts the worker's context before it and the caller's behind", () => {
      const where = 'PL/pgSQL function f() line 1\nSQL statement "SELECT f()"';
      expect(cleanReport(raisedReport(own, foreign), raised({ where }), true)).to.deep.equal(
        raisedReport(where, 'background worker, pid 7', foreign),
      );
    });

    it('names no worker when the error is the proxy’s own', () => {
      const error = { ...raised({ where: 'elsewhere' }), pid: undefined };
      expect(cleanReport(raisedReport(own, foreign), error, true)).to.deep.equal(
        raisedReport(foreign),
      );
    });

    it('says where the worker raised it instead of where we did', () => {
      const frame = report(
        'E',
        'C22012',
        'Mx',
        `W${own}`,
        'Fpl_exec.c',
        'L3911',
        'Rexec_stmt_raise',
      );
      const error = raised({ file: 'int.c', line: '824', routine: 'int4div' });
      expect(cleanReport(frame, error, true)).to.deep.equal(
        report('E', 'C22012', 'Mx', 'Wbackground worker, pid 7', 'Fint.c', 'L824', 'Rint4div'),
      );
    });

    it('adds the internal query', () => {
      const error = raised({ internalPosition: '8', internalQuery: 'SELECT 1/0' });
      expect(cleanReport(report('E', 'C22012', 'Mx', `W${own}`), error, true)).to.deep.equal(
        report('E', 'C22012', 'Mx', 'Wbackground worker, pid 7', 'p8', 'qSELECT 1/0'),
      );
    });

    it('adds bytes above 127 where client and database share an encoding', () => {
      const error = raised({ where: '\xc3\xa9', internalQuery: '\xc3\xa9' });
      expect(cleanReport(report('E', 'C22012', 'Mx', `W${own}`), error, true)).to.deep.equal(
        report('E', 'C22012', 'Mx', 'W\xc3\xa9\nbackground worker, pid 7', 'q\xc3\xa9'),
      );
    });

    it('leaves out bytes above 127 where they do not', () => {
      const error = raised({ where: '\xc3\xa9', internalQuery: '\xc3\xa9', file: 'int.c' });
      expect(cleanReport(report('E', 'C22012', 'Mx', `W${own}`), error, false)).to.deep.equal(
        report('E', 'C22012', 'Mx', 'Wbackground worker, pid 7', 'Fint.c'),
      );
    });
  });
});
