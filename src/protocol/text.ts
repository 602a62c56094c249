/** UTF-8 from the wire, decoded fatally; control characters are a fault, so that no text can break out of a log line. */
import type { Buffer } from "node:buffer";
import { isPlainText } from "../base/text.ts";
import { ProtocolFault } from "./fault.ts";

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export function decodeText(buffer: Buffer, start: number, end: number): string {
  let text: string;
  try {
    text = decoder.decode(buffer.subarray(start, end));
  } catch {
    throw new ProtocolFault("protocol_error", "a text is not UTF-8");
  }
  if (!isPlainText(text)) throw new ProtocolFault("protocol_error", "a text has control characters");
  return text;
}
