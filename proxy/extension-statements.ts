import {
  alterStatement,
  createStatement,
  dropStatement,
  findExtensionStatements,
  frameOf,
  MessageType,
  type ExtensionStatement,
} from '../src/index.ts';

/**
 * Replaces CREATE, ALTER and DROP EXTENSION pg_background in a Query or Parse message: each by one DO block,
 * so that batches and transactions keep their meaning. Gives the message itself when it has none.
 */
export function replaceExtensionStatements(frame: Buffer, newGrantToken: () => string): Buffer {
  const isParse = frame[0] === MessageType.parse;
  // Parse: a name, the text, then the parameter types. Query: the text.
  const start = isParse ? frame.indexOf(0, 5) + 1 : 5;
  const end = frame.indexOf(0, start);
  if (start === 0 || end < 0) return frame;
  // One character a byte: offsets in the text are offsets in the message.
  const text = frame.toString('latin1', start, end);
  const statements = findExtensionStatements(text);
  if (statements.length === 0) return frame;
  let replaced = '';
  let copied = 0;
  for (const statement of statements) {
    replaced += text.slice(copied, statement.start) + blockFor(statement, newGrantToken());
    copied = statement.end;
  }
  replaced += text.slice(copied);
  return frameOf(
    frame[0] as number,
    Buffer.concat([frame.subarray(5, start), Buffer.from(replaced, 'latin1'), frame.subarray(end)]),
  );
}

function blockFor(statement: ExtensionStatement, grantToken: string): string {
  const common = { grantToken, original: statement.text };
  switch (statement.kind) {
    case 'create':
      return createStatement({
        ...common,
        schema: statement.schema,
        version: statement.version,
        ifNotExists: statement.ifNotExists,
      });
    case 'update':
      return alterStatement({ ...common, version: statement.version });
    case 'setSchema':
      return alterStatement({ ...common, schema: statement.schema });
    case 'drop':
      return dropStatement({
        ...common,
        ifExists: statement.ifExists,
        cascade: statement.cascade,
        others: statement.others,
      });
  }
}
