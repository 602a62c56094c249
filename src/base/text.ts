/** Text from elsewhere made safe to show: no control, bidi, or line-breaking characters, bounded length. */

// C0, DEL, C1, soft hyphen, zero-width and bidi marks, line/paragraph separators, BOM, tags and lone surrogates.
const unsafe =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]|\p{Surrogate}/gu;

const plain = /^[\x20-\x7e]*$/;

/** `text` with every unsafe character written as `\u{hex}` and cut to `limit` characters (default 512). */
export function printable(text: string, limit = 512): string {
  if (text.length <= limit && plain.test(text)) return text;
  const cut = text.length > limit ? `${text.slice(0, limit)}...` : text;
  return cut.replace(unsafe, (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`);
}

/** Whether `text` has no control characters (C0, DEL, C1): what may travel as a name or a reason. */
export function isPlainText(text: string): boolean {
  return !/[\u0000-\u001f\u007f-\u009f]/.test(text);
}
