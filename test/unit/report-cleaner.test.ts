import { expect } from 'chai';
import { cleanReport, RaisedReports, type ExpectedReports } from '../../src/report-cleaner.ts';
import { report } from '../support/messages.ts';

const own = 'PL/pgSQL function pgbackground.call(text,json,text) line 55 at RAISE';
const ownApi = 'PL/pgSQL function tools.pg_background_result(integer) line 12 at assignment';
const foreign = 'PL/pgSQL function public.nightly() line 3 at PERFORM';
const block = 'PL/pgSQL function inline_code_block line 9 at EXECUTE';

/** An error whose context has these lines. */
function errorIn(...lines: readonly string[]): Buffer {
  return report('E', 'SERROR', 'VERROR', 'C22012', 'Mdivision by zero', `W${lines.join('\n')}`);
}

const withoutContext = report('E', 'SERROR', 'VERROR', 'C22012', 'Mdivision by zero');

function clean(frame: Buffer, expected: Partial<ExpectedReports> = {}): Buffer {
  return cleanReport(frame, { sharesEncoding: true, ...expected });
}

/** What is expected when a function was told to raise an error of the worker 7. */
function raised(more: object = {}): Partial<ExpectedReports> {
  const fields = { severity: 'ERROR', code: '22012', message: 'division by zero', ...more };
  return { raised: { fields, pid: 7 } };
}

describe('cleanReport', () => {
  const notOurs: Readonly<Record<string, Buffer>> = {
    'without context': report('E', 'SERROR', 'C42601', 'Msyntax error', 'D'),
    "with a user's context": errorIn(foreign),
    'with a function whose name ends like ours': errorIn(
      'PL/pgSQL function public.my_pg_background_launch(text) line 3 at RAISE',
    ),
    'with a function whose name begins like ours': errorIn(
      'PL/pgSQL function public.pg_background_launcher(text) line 3 at RAISE',
    ),
    'with our name in a text': errorIn('SQL statement "SELECT \'pgbackground.call(\'"'),
  };
  for (const [what, frame] of Object.entries(notOurs)) {
    it(`gives the message itself for a report ${what}`, () => {
      expect(clean(frame, raised())).to.equal(frame);
    });
  }

  describe('context', () => {
    it('loses the lines of our functions', () => {
      expect(clean(errorIn(own, ownApi, foreign))).to.deep.equal(errorIn(foreign));
    });

    it('is left out when nothing is left of it', () => {
      expect(clean(errorIn(own, ownApi))).to.deep.equal(withoutContext);
    });

    it('loses what happened inside our functions', () => {
      const inside = 'SQL statement "SELECT pgbackground.sleep_on(1)"';
      expect(clean(errorIn(inside, own, inside, ownApi, foreign))).to.deep.equal(errorIn(foreign));
    });

    it('keeps all that called our functions, in its order', () => {
      const caller = 'SQL statement "SELECT nightly()"';
      expect(clean(errorIn(own, foreign, caller))).to.deep.equal(errorIn(foreign, caller));
    });

    const ours = [
      'PL/pgSQL assignment "payload := pgbackground.sign(payload)"',
      'PL/pgSQL function pg_background_launch_v2(text,integer) line 4 during statement block',
      'PL/pgSQL-Funktion pgbackground.call(text,json,text) Zeile 55 bei RAISE',
    ];
    for (const line of ours) {
      it(`loses the line ${line}`, () => {
        expect(clean(errorIn(line, foreign))).to.deep.equal(errorIn(foreign));
      });
    }

    it('is lost in a statement that the proxy has replaced', () => {
      expect(clean(errorIn(block), { isReplacement: true })).to.deep.equal(withoutContext);
    });

    it('is lost in such a statement, our functions or not', () => {
      expect(clean(errorIn(own, block), { isReplacement: true })).to.deep.equal(withoutContext);
    });
  });

  it('takes out the empty fields of our RAISE', () => {
    const frame = report('E', 'SERROR', 'C22012', 'Mx', 'D', 'H', 's', 't', `W${own}`);
    expect(clean(frame)).to.deep.equal(report('E', 'SERROR', 'C22012', 'Mx'));
  });

  it('keeps the type of a notice', () => {
    const frame = report('N', 'SNOTICE', 'C00000', 'Mx', `W${own}`);
    expect(clean(frame)).to.deep.equal(report('N', 'SNOTICE', 'C00000', 'Mx'));
  });

  it('keeps each byte of the fields', () => {
    const frame = report('E', 'C22012', 'M\xe9\xff', `W${own}`);
    expect(clean(frame, { sharesEncoding: false })).to.deep.equal(
      report('E', 'C22012', 'M\xe9\xff'),
    );
  });

  describe('of a raised error', () => {
    const worker = 'background worker, pid 7';

    it('names the worker', () => {
      expect(clean(errorIn(own), raised())).to.deep.equal(errorIn(worker));
    });

    it("puts the worker's context before it and the caller's behind", () => {
      const where = 'PL/pgSQL function f() line 1\nSQL statement "SELECT f()"';
      expect(clean(errorIn(own, foreign), raised({ where }))).to.deep.equal(
        errorIn(where, worker, foreign),
      );
    });

    it('names no worker when the error is of the proxy itself', () => {
      const fields = { severity: 'ERROR', code: '22012', message: 'x', where: 'elsewhere' };
      expect(clean(errorIn(own, foreign), { raised: { fields, pid: undefined } })).to.deep.equal(
        errorIn(foreign),
      );
    });

    it('names no worker in another error', () => {
      expect(clean(errorIn(own, foreign), raised({ code: '42P01' }))).to.deep.equal(
        errorIn(foreign),
      );
    });

    it('says where the worker raised it instead of where we did', () => {
      const raise = ['Fpl_exec.c', 'L3911', 'Rexec_stmt_raise'];
      const frame = report('E', 'C22012', 'Mx', `W${own}`, ...raise);
      const expected = raised({ file: 'int.c', line: '824', routine: 'int4div' });
      expect(clean(frame, expected)).to.deep.equal(
        report('E', 'C22012', 'Mx', 'Fint.c', 'L824', 'Rint4div', `W${worker}`),
      );
    });

    it('adds the internal query', () => {
      const expected = raised({ internalPosition: '8', internalQuery: 'SELECT 1/0' });
      expect(clean(report('E', 'C22012', 'Mx', `W${own}`), expected)).to.deep.equal(
        report('E', 'C22012', 'Mx', 'p8', 'qSELECT 1/0', `W${worker}`),
      );
    });

    it('adds bytes above 127 where client and database share an encoding', () => {
      const expected = raised({ where: '\xc3\xa9', internalQuery: '\xc3\xa9' });
      expect(clean(report('E', 'C22012', 'Mx', `W${own}`), expected)).to.deep.equal(
        report('E', 'C22012', 'Mx', 'q\xc3\xa9', `W\xc3\xa9\n${worker}`),
      );
    });

    it('leaves out such texts, and no others, where they do not', () => {
      const more = { where: '\xc3\xa9\nsecond line', internalQuery: '\xc3\xa9', file: 'int.c' };
      const frame = report('E', 'C22012', 'Mx', `W${own}\n${foreign}`);
      expect(clean(frame, { ...raised(more), sharesEncoding: false })).to.deep.equal(
        report('E', 'C22012', 'Mx', 'Fint.c', `W${worker}\n${foreign}`),
      );
    });
  });

  describe('of a call that got no answer', () => {
    const frame = report('E', 'C53000', 'Mno answer', 'Din time', 'Hwait', `W${own}`);
    const reason = { severity: 'FATAL', code: '53300', message: 'too many clients' };

    it('says why', () => {
      expect(clean(frame, { unanswered: reason })).to.deep.equal(
        report('E', 'C53000', 'Mno answer', 'Hwait', 'Dtoo many clients'),
      );
    });

    it('says what helps, where that is known', () => {
      expect(clean(frame, { unanswered: { ...reason, hint: 'raise the limit' } })).to.deep.equal(
        report('E', 'C53000', 'Mno answer', 'Dtoo many clients', 'Hraise the limit'),
      );
    });

    it('keeps its own words where the reason is not known', () => {
      expect(clean(frame)).to.deep.equal(report('E', 'C53000', 'Mno answer', 'Din time', 'Hwait'));
    });

    it('keeps its own words where those of the reason cannot be sent', () => {
      const unanswered = { ...reason, message: '\xe9', hint: 'raise the limit' };
      expect(clean(frame, { unanswered, sharesEncoding: false })).to.deep.equal(
        report('E', 'C53000', 'Mno answer', 'Din time', 'Hwait'),
      );
    });

    it('does not say why another error was raised', () => {
      expect(clean(errorIn(own), { unanswered: reason })).to.deep.equal(withoutContext);
    });
  });
});

describe('RaisedReports', () => {
  const notice = (message: string, ...more: string[]) =>
    report('N', 'SNOTICE', 'VNOTICE', 'C00000', `M${message}`, 'Fpl_exec.c', ...more, `W${own}`);
  const raise = (...messages: string[]) => {
    const reports = new RaisedReports();
    const fields = messages.map((message) => ({
      severity: 'NOTICE',
      code: '00000',
      message,
      file: `${message}.c`,
    }));
    reports.noticesRaised(fields, 7);
    return reports;
  };
  const told = (reports: RaisedReports, message: string) =>
    reports.clean(notice(message), { sharesEncoding: true }).toString();

  it('gives notices their origin and their worker', () => {
    const reports = raise('one', 'two');
    expect(told(reports, 'one')).to.include('Fone.c').and.include('background worker, pid 7');
    expect(told(reports, 'two')).to.include('Ftwo.c');
  });

  it('knows that some are not sent, as client_min_messages says', () => {
    expect(told(raise('one', 'two'), 'two')).to.include('Ftwo.c');
  });

  it('gives nothing to a notice of others', () => {
    const reports = raise('one');
    expect(told(reports, 'mine')).not.to.include('background worker');
    expect(told(reports, 'one')).to.include('Fone.c');
  });

  it('forgets them with their statement', () => {
    const reports = raise('one');
    reports.statementEnded();
    expect(reports.hasNotices).to.equal(false);
    expect(told(reports, 'one')).not.to.include('background worker');
  });
});
