import {
  alterStatement,
  createStatement,
  dropStatement,
  encodeReport,
  findExtensionStatements,
  frameOf,
  MessageType,
  reportFields,
  type ExtensionStatement,
} from '../src/index.ts';

/** A place in a statement string behind which the server counts other characters than the client. */
export interface Replacement {
  /** How many characters the server has read when the replaced statement ends. */
  readonly end: number;
  /** How many more they are than in the client's text. */
  readonly surplus: number;
}

/** A message in which statements may have been replaced. */
export interface ReplacedMessage {
  readonly frame: Buffer;
  /** What was replaced, in characters of this client encoding. */
  replacements(clientEncoding: string | undefined): Replacement[];
}

/**
 * Replaces CREATE, ALTER and DROP EXTENSION pg_background in a Query or Parse message: each by one DO
 * block, so that batches and transactions keep their meaning. Gives the message itself when it has none.
 */
export function replaceExtensionStatements(
  frame: Buffer,
  newGrantToken: () => string,
): ReplacedMessage {
  const isParse = frame[0] === MessageType.parse;
  // Parse: a name, the text, then the parameter types. Query: the text.
  const start = isParse ? frame.indexOf(0, 5) + 1 : 5;
  const end = frame.indexOf(0, start);
  if (start === 0 || end < 0) return { frame, replacements: () => [] };
  // One character a byte: offsets in the text are offsets in the message.
  const text = frame.toString('latin1', start, end);
  const statements = findExtensionStatements(text);
  if (statements.length === 0) return { frame, replacements: () => [] };
  const pieces: { readonly text: string; readonly original: string }[] = [];
  let copied = 0;
  for (const statement of statements) {
    const between = text.slice(copied, statement.start);
    pieces.push({
      text: between + blockFor(statement, newGrantToken()),
      original: between + statement.text,
    });
    copied = statement.end;
  }
  const replaced = pieces.map((piece) => piece.text).join('') + text.slice(copied);
  return {
    frame: frameOf(
      frame[0] as number,
      Buffer.concat([
        frame.subarray(5, start),
        Buffer.from(replaced, 'latin1'),
        frame.subarray(end),
      ]),
    ),
    replacements: (clientEncoding) => {
      // In UTF-8 a byte 10xxxxxx continues a character.
      const continued = clientEncoding === 'UTF8' ? /[\x80-\xbf]/g : /(?!)/g;
      const count = (bytes: string) => bytes.replace(continued, '').length;
      let serverCount = 0;
      let clientCount = 0;
      return pieces.map((piece) => {
        serverCount += count(piece.text);
        clientCount += count(piece.original);
        return { end: serverCount, surplus: serverCount - clientCount };
      });
    },
  };
}

/** The report with its position as the client counts it: in the text that it has sent. */
export function movePosition(frame: Buffer, replacements: readonly Replacement[]): Buffer {
  if (replacements.length === 0) return frame;
  const fields = [...reportFields(frame)].map(([letter, text]) => {
    if (letter !== 'P') return [letter, text] as const;
    const surplus = replacements.findLast(({ end }) => end < Number(text))?.surplus ?? 0;
    return [letter, String(Number(text) - surplus)] as const;
  });
  return encodeReport(frame[0] as number, fields);
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
