/** What a reader of a text that a person wrote answers: its value, or that it is not one. */
import { PipegateError } from "./error.ts";

/** `note` says what is wrong or what was likely meant, and ends the sentence that tells of it. */
export type Reading<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly note?: string };

export interface Argument {
  readonly text: string;
  /** Ends the sentence: "is not the address of a gateway". */
  readonly fault: string;
  /** The right form. */
  readonly next: string;
}

/** The value of an argument; throws a PipegateError `usage` when it has none. */
export function valueOf<T>(reading: Reading<T>, { text, fault, next }: Argument): T {
  if (reading.ok) return reading.value;
  const note = reading.note === undefined ? "" : `: ${reading.note}`;
  throw new PipegateError("usage", `${text === "" ? "an empty text" : text} ${fault}${note}`, { next });
}
