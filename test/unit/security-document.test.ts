import { expect } from 'chai';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const path = (name: string) => fileURLToPath(new URL(`../../../docs/${name}`, import.meta.url));

/** The rows of the threat table: what is threatened, and the tests that hold, as `[title](file)`. */
function threats(): { threat: string; tests: { title: string; file: string }[] }[] {
  const [, table = ''] = readFileSync(path('security.md'), 'utf8').split('## Threats');
  const rows = table.split('\n').filter((line) => line.startsWith('| ') && line.includes(']('));
  return rows.map((row) => ({
    threat: row.split(' | ', 1)[0] ?? '',
    tests: [...row.matchAll(/\[([^\]]+)\]\(([^)]+)\)/g)].map(([, title = '', file = '']) => ({
      title,
      file,
    })),
  }));
}

// A document that promises tests must not outlive them.
describe('docs/security.md', () => {
  for (const { threat, tests } of threats()) {
    it(`names tests that exist for ${threat.replace(/^\| /, '')}`, () => {
      for (const { title, file } of tests) {
        expect(existsSync(path(file)), file).to.equal(true);
        // Titles of tables are made of parts: the document has the part that all of them share.
        const source = readFileSync(path(file), 'utf8').replaceAll("\\'", "'").replace(/\s+/g, ' ');
        expect(source, file).to.include(title);
      }
    });
  }

  it('has a row for every file of the attack suite', () => {
    expect(threats().length).to.be.above(20);
  });
});
