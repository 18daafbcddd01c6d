/** A text that mentions none of these is not looked at. */
const MENTIONS = /pg_background|\bdatabase\b/i;

/** Makes an ASCII letter small. */
const SMALL = 0x20;
const [A, B, G, T] = [97, 98, 103, 116] as const;
const UNDERSCORE = 95;

/**
 * Part of a message as text, a byte for a character, if it may concern us. Right for nearly every text that
 * gives undefined here, and cheap: parsing is for the rest.
 */
export function textThatMentions(bytes: Buffer, from: number, to: number): string | undefined {
  if (!mayMention(bytes, from, to)) return undefined;
  const text = bytes.toString('latin1', from, to);
  return MENTIONS.test(text) ? text : undefined;
}

/** Looks for the middle of both words, without making a string: `g_ba` and `taba`. */
function mayMention(bytes: Buffer, from: number, to: number): boolean {
  const end = Math.min(to, bytes.length);
  for (let at = from + 3; at < end; at++) {
    if (((bytes[at] as number) | SMALL) !== A) continue;
    if (((bytes[at - 1] as number) | SMALL) !== B) continue;
    const before = bytes[at - 2] as number;
    const first = (bytes[at - 3] as number) | SMALL;
    if (before === UNDERSCORE ? first === G : (before | SMALL) === A && first === T) return true;
  }
  return false;
}
