import { AssertionError } from 'chai';
import type { RawMessage } from '../support/wire.ts';

/** How much of a message a difference shows. */
const SHOWN_BYTES = 300;

/** @throws AssertionError with the first difference between what two sessions were told */
export function expectSame(
  direct: readonly RawMessage[],
  proxied: readonly RawMessage[],
  how = '',
): void {
  const found = difference(direct, proxied);
  if (found !== undefined) throw new AssertionError(`${how} ${found}`.trim());
}

/**
 * What two sessions were told is the same, but for what differs in any two sessions: the process ID and
 * key of BackendKeyData (not their length), and the process ID in a NotificationResponse.
 * @returns the first difference; undefined without one
 */
export function difference(
  direct: readonly RawMessage[],
  proxied: readonly RawMessage[],
): string | undefined {
  for (let i = 0; i < Math.max(direct.length, proxied.length); i++) {
    const [expected, actual] = [direct[i], proxied[i]];
    if (expected && actual && expected.type === actual.type) {
      if (comparable(expected).equals(comparable(actual))) continue;
    }
    return [
      `message ${i + 1} differs`,
      `  directly: ${shown(expected)}`,
      `  proxied:  ${shown(actual)}`,
      `  behind:   ${direct
        .slice(0, i)
        .map(({ type }) => type)
        .join('')}`,
    ].join('\n');
  }
  return undefined;
}

/** How much a session was told, in bytes. */
export function lengthOf(messages: readonly RawMessage[]): number {
  return messages.reduce((sum, { body }) => sum + 5 + body.length, 0);
}

function comparable({ type, body }: RawMessage): Buffer {
  if (type === 'K') return Buffer.alloc(body.length);
  if (type === 'A') return Buffer.concat([Buffer.alloc(4), body.subarray(4)]);
  return body;
}

function shown(message: RawMessage | undefined): string {
  if (message === undefined) return 'nothing';
  const { type, body } = message;
  const beginning = JSON.stringify(body.toString('latin1', 0, SHOWN_BYTES));
  return `${type} ${beginning}${body.length > SHOWN_BYTES ? ` … ${body.length} bytes` : ''}`;
}
