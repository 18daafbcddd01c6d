import type { DatabaseText } from './errors.ts';

/** Cuts a text to so many bytes, never inside a character. */
export function cutText(text: DatabaseText, bytes: number, encoding: string): DatabaseText {
  if (text.length <= bytes) return text;
  let end = bytes;
  // In UTF-8 a byte 10xxxxxx continues a character.
  if (encoding === 'UTF8') while (end > 0 && (text.charCodeAt(end) & 0xc0) === 0x80) end--;
  // Elsewhere nothing tells where a character begins: back to the last ASCII character.
  if (/^(EUC_|MULE)/.test(encoding)) while (end > 0 && text.charCodeAt(end - 1) >= 0x80) end--;
  return text.slice(0, end);
}

/** The same, with three dots where something was cut off. */
export function abbreviate(text: DatabaseText, bytes: number, encoding: string): DatabaseText {
  return text.length <= bytes ? text : `${cutText(text, bytes - 3, encoding)}...`;
}
