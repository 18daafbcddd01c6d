import { expect } from 'chai';
import { findRegressions, updateBaseline } from '../../bench/baseline.ts';
import { figure, isMet, type Better } from '../../bench/figure.ts';
import { parseOptions } from '../../bench/options.ts';
import { parsePgbench } from '../../bench/pgbench.ts';
import { Resources } from '../../bench/resources.ts';
import { median, quantile, ratios, summarise } from '../../bench/statistics.ts';

describe('statistics of the benchmark', () => {
  it('takes the middle sample as the median, in whatever order they come', () => {
    expect(median([30, 1, 2])).to.equal(2);
  });

  it('takes the mean of the two middle samples of an even number', () => {
    expect(median([4, 1, 2, 3])).to.equal(2.5);
  });

  it('sorts by value, not by text', () => {
    expect(median([10, 9, 100])).to.equal(10);
  });

  it('has no median without samples', () => {
    expect(Number.isNaN(median([]))).to.equal(true);
  });

  it('finds a percentile between two samples', () => {
    expect(quantile([0, 10], 0.99)).to.be.closeTo(9.9, 1e-9);
  });

  it('gives the quartiles as the spread', () => {
    expect(summarise([5, 4, 3, 2, 1])).to.deep.equal({ median: 3, low: 2, high: 4, count: 5 });
  });

  it('divides round by round', () => {
    expect(ratios([2, 9], [1, 3])).to.deep.equal([2, 3]);
  });

  it('leaves out rounds that only one side has', () => {
    expect(ratios([2, 9, 7], [1, 3])).to.deep.equal([2, 3]);
    expect(ratios([2], [1, 3])).to.deep.equal([2]);
  });
});

describe('targets of the benchmark', () => {
  const met = (better: Better, value: number) =>
    isMet(figure('any', [value], { better, target: 2 }));

  it('are upper limits where lower is better', () => {
    expect([1, 2, 3].map((value) => met('lower', value))).to.deep.equal([true, true, false]);
  });

  it('are lower limits where higher is better', () => {
    expect([1, 2, 3].map((value) => met('higher', value))).to.deep.equal([false, true, true]);
  });

  it('are neither met nor missed where there is none', () => {
    expect(isMet(figure('any', [1], { better: 'lower' }))).to.equal(undefined);
  });

  it('are not met by what could not be measured', () => {
    expect(met('lower', NaN)).to.equal(false);
    expect(met('higher', NaN)).to.equal(false);
  });
});

describe('baseline of the benchmark', () => {
  const regressions = (better: Better, before: number[], now: number[]) =>
    findRegressions(
      [figure('it', now, { better })],
      updateBaseline({}, [figure('it', before, { better })]),
    ).map(({ now }) => now.name);

  it('finds what got worse by more than the spread', () => {
    expect(regressions('lower', [1, 1.1, 1.2], [1.4, 1.5, 1.6])).to.deep.equal(['it']);
    expect(regressions('higher', [1.4, 1.5, 1.6], [1, 1.1, 1.2])).to.deep.equal(['it']);
  });

  it('does not find what got better', () => {
    expect(regressions('lower', [1.4, 1.5, 1.6], [1, 1.1, 1.2])).to.deep.equal([]);
    expect(regressions('higher', [1, 1.1, 1.2], [1.4, 1.5, 1.6])).to.deep.equal([]);
  });

  it('does not find what got worse within the spread', () => {
    expect(regressions('lower', [1, 2, 3], [1.8, 2.6, 4])).to.deep.equal([]);
    expect(regressions('higher', [2, 3, 4], [1, 2.4, 2.9])).to.deep.equal([]);
  });

  it('does not find less than a tenth, however small the spread', () => {
    expect(regressions('lower', [100], [109])).to.deep.equal([]);
    expect(regressions('lower', [100], [111])).to.deep.equal(['it']);
    expect(regressions('higher', [100], [91])).to.deep.equal([]);
    expect(regressions('higher', [100], [89])).to.deep.equal(['it']);
  });

  it('finds any failure where there was none', () => {
    expect(regressions('lower', [0], [1])).to.deep.equal(['it']);
    expect(regressions('lower', [0], [0])).to.deep.equal([]);
  });

  it('says nothing of figures that it does not have', () => {
    expect(findRegressions([figure('new', [1], { better: 'lower' })], {})).to.deep.equal([]);
  });

  it('keeps what a run has not measured', () => {
    const old = { better: 'lower', median: 1, low: 1, high: 1 } as const;
    const updated = updateBaseline({ old, it: old }, [figure('it', [2], { better: 'lower' })]);
    expect(updated).to.deep.equal({ old, it: { better: 'lower', median: 2, low: 2, high: 2 } });
  });
});

describe('command line of the benchmark', () => {
  it('takes several measurements', () => {
    const { only } = parseOptions(['--only', 'a', '--only', 'b'], ['a', 'b', 'c']);
    expect(only).to.deep.equal(['a', 'b']);
  });

  it('refuses a measurement that there is not, and names those that there are', () => {
    expect(() => parseOptions(['--only', 'x'], ['a', 'b'])).to.throw(/"x"; there are a, b/);
  });
});

describe('reports of pgbench', () => {
  const report = `transaction type: <builtin: select only>
number of transactions actually processed: 12345
number of failed transactions: 3 (0.024%)
latency average = 0.081 ms
initial connection time = 2.345 ms
tps = 12345.678901 (without initial connection time)
`;

  it('are read', () => {
    expect(parsePgbench(report)).to.deep.equal({
      transactions: 12345,
      failed: 3,
      perSecond: 12345.678901,
    });
  });

  it('of older versions name no failed transactions', () => {
    const older = report.replace(/^number of failed.*\n/m, '');
    expect(parsePgbench(older)?.failed).to.equal(0);
  });

  it('without a transaction give nothing', () => {
    expect(parsePgbench('pgbench: error: connection refused')).to.equal(undefined);
  });
});

describe('resources of the benchmark', () => {
  it('are closed once, the last first', async () => {
    const closed: string[] = [];
    const resources = new Resources();
    resources.own(() => closed.push('first'));
    const release = resources.own(() => closed.push('released'));
    resources.own(() => closed.push('last'));
    await release();
    await resources.close();
    await resources.close();
    expect(closed).to.deep.equal(['released', 'last', 'first']);
  });

  it('are closed though another cannot be', async () => {
    const closed: string[] = [];
    const resources = new Resources();
    resources.own(() => closed.push('first'));
    resources.own(() => Promise.reject(new Error('cannot')));
    const failure = await resources.close().catch((error: unknown) => error);
    expect(failure).to.be.instanceOf(AggregateError);
    expect(closed).to.deep.equal(['first']);
  });

  it('that come after the end are closed at once', async () => {
    const closed: string[] = [];
    const resources = new Resources();
    await resources.close();
    resources.own(() => closed.push('late'));
    expect(closed).to.deep.equal(['late']);
  });
});
