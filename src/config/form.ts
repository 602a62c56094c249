/**
 * The building blocks of the schema: texts that a reader of ours turns into values, maps, lists, one-or-list.
 * Promises: each message is a whole sentence, `expected ..., got ...; NOTE`; what JSON Schema can say (patterns, descriptions) it says.
 */
import * as v from "valibot";
import type { Reading } from "../base/reading.ts";
import { didYouMean, mismatch, shown } from "./problem.ts";

/** A schema from what YAML gives to what the gateway uses. */
export type Schema<T> = v.GenericSchema<unknown, T>;

/** How a kind of text is written. */
export interface Form<T> {
  /** Ends "expected ", with an example. */
  readonly expected: string;
  readonly description: string;
  /** Everything that `read` takes; for editors. */
  readonly pattern?: RegExp;
  read(text: string): Reading<T>;
}

interface Faulty {
  readonly input: unknown;
}

/** What a person gets to read about a value that is not even a text. */
function notText<T>(form: Form<T>, input: unknown): string {
  if (typeof input !== "number") return mismatch(form.expected, input);
  const reading = form.read(String(input));
  return mismatch(form.expected, input, reading.ok ? "put it in quotes" : reading.note);
}

export function text<T>(form: Form<T>): Schema<T> {
  const whole = (input: string): string => {
    const reading = form.read(input);
    return mismatch(form.expected, input, reading.ok ? undefined : reading.note);
  };
  const read = v.rawTransform<string, T>(({ dataset, addIssue, NEVER }) => {
    const reading = form.read(dataset.value);
    if (reading.ok) return reading.value;
    addIssue({ message: mismatch(form.expected, dataset.value, reading.note) });
    return NEVER;
  });
  const plain = v.string((issue: Faulty) => notText(form, issue.input));
  const described = v.description<string, string>(form.description);
  if (form.pattern === undefined) return v.pipe(plain, described, read);
  return v.pipe(
    plain,
    v.regex(form.pattern, (issue) => whole(issue.input)),
    described,
    read,
  );
}

/** One of a few words. */
export function oneOf<const T extends string>(words: readonly T[], description: string): Schema<T> {
  const expected = words.length === 1 ? words[0]! : `${words.slice(0, -1).join(", ")} or ${words.at(-1)!}`;
  const note = (input: unknown): string | undefined => (typeof input === "string" ? didYouMean(input, words) : undefined);
  return v.pipe(
    v.picklist(words, (issue: Faulty) => mismatch(expected, issue.input, note(issue.input))),
    v.description(description),
  );
}

export function yesNo(description: string): Schema<boolean> {
  return v.pipe(
    v.boolean((issue: Faulty) => mismatch("true or false", issue.input)),
    v.description(description),
  );
}

export function wholeNumber(options: { readonly least: number; readonly most: number; readonly description: string }): Schema<number> {
  const { least, most, description } = options;
  const expected = `a whole number, ${least} or more`;
  const says = (issue: Faulty): string => {
    const bare = typeof issue.input === "string" && /^[0-9]{1,15}$/.test(issue.input);
    return mismatch(expected, issue.input, bare ? "leave out the quotes" : undefined);
  };
  const tooMuch = (issue: Faulty): string => mismatch(`a whole number up to ${most}`, issue.input);
  return v.pipe(v.number(says), v.integer(says), v.minValue(least, says), v.maxValue(most, tooMuch), v.description(description));
}

/** A number, or one word that stands for one. */
export function numberOr<const T extends string>(
  word: { readonly word: T; readonly description: string },
  number: Schema<number>,
): Schema<number | T> {
  const says = (issue: Faulty): string => mismatch(`a whole number or ${word.word}`, issue.input);
  const literal = v.pipe(v.literal(word.word, says), v.description(word.description));
  const both = v.union([number, literal]);
  return v.lazy((input): v.GenericSchema<unknown, number | T> =>
    input === undefined ? both : typeof input === "number" ? number : literal,
  );
}

type Output<E> = E extends Readonly<Record<string, Schema<unknown>>> ? { [K in keyof E]: v.InferOutput<E[K]> } : never;

/** A map with these keys. Unknown ones are told by unknown.ts, all of them; what is said of the first here is passed over. */
export function map<E extends Readonly<Record<string, Schema<unknown>>>>(entries: E, description: string): Schema<Output<E>> {
  const says = (issue: v.StrictObjectIssue): string => {
    if (issue.path === undefined) return notMap(issue.input);
    const entry = entries[String(issue.path.at(-1)?.key)];
    return entry === undefined ? "unknown key" : `missing; ${expectation(entry)}`;
  };
  return noList(v.pipe(v.strictObject(entries, says), v.description(description)) as Schema<unknown> as Schema<Output<E>>);
}

/** valibot takes a list for a map with the keys 0, 1, ... */
function noList<T>(whole: Schema<T>): Schema<T> {
  return v.lazy((input): v.GenericSchema<unknown, T> => (Array.isArray(input) ? failing([], notMap(input)) : whole));
}

function notMap(input: unknown): string {
  return mismatch("a map of keys and values", input);
}

/** `expected ...` for a value of this schema, out of its own message. */
function expectation(schema: unknown): string {
  const { message, wrapped, getter } = schema as { message?: unknown; wrapped?: unknown; getter?: (input: unknown) => unknown };
  if (wrapped !== undefined) return expectation(wrapped);
  if (typeof getter === "function") return expectation(getter(null));
  const whole = typeof message === "function" ? String((message as (issue: Faulty) => unknown)({ input: undefined })) : "expected a value";
  return whole.split(", got nothing")[0]!;
}

/** A key that may be left out. */
export function optional<T>(schema: Schema<T>): Schema<T | undefined> {
  return v.optional(schema as v.GenericSchema<unknown, T>) as Schema<T | undefined>;
}

export interface ListOptions {
  readonly description: string;
  /** Ends "expected ", with an example. */
  readonly expected: string;
  /** Whether it may be empty. */
  readonly empty?: boolean;
}

export function list<T>(item: Schema<T>, { description, expected, empty = false }: ListOptions): Schema<readonly T[]> {
  const says = (issue: Faulty): string =>
    mismatch(expected, issue.input, typeof issue.input === "string" ? "put it in [brackets]" : undefined);
  const whole = v.array(item, says);
  const described = v.description<T[], string>(description);
  return empty ? v.pipe(whole, described) : v.pipe(whole, v.minLength(1, says), described);
}

/** One of them, or a list of them; a list comes out. */
export function oneOrList<T>(item: Schema<T>, { description, expected }: ListOptions): Schema<readonly T[]> {
  const several = list(item, { description, expected });
  const both = v.union([item, several]);
  const either = v.lazy((input): v.GenericSchema<unknown, T | readonly T[]> =>
    input === undefined ? both : Array.isArray(input) ? several : item,
  );
  return v.pipe(
    either,
    v.description(description),
    v.transform((value): readonly T[] => (Array.isArray(value) ? (value as readonly T[]) : [value as T])),
  );
}

/** A map from names of the user's choice. */
export function named<T>(
  value: Schema<T>,
  { key, description }: { readonly key: Form<string>; readonly description: string },
): Schema<Readonly<Record<string, T>>> {
  const whole = v.record(text(key) as v.GenericSchema<string, string>, value, (issue: Faulty) => notMap(issue.input));
  return noList(v.pipe(whole, v.description(description)) as Schema<Readonly<Record<string, T>>>);
}

/** Whichever of `kinds` the map names by its first key; each kind is a key that only it has. */
export function kinds<T>(
  schemas: Readonly<Record<string, Schema<T>>>,
  options: { readonly note: (key: string) => string | undefined },
): Schema<T> {
  const names = Object.keys(schemas);
  const all = v.union(Object.values(schemas));
  return v.lazy((input): v.GenericSchema<unknown, T> => {
    if (input === undefined) return all;
    if (typeof input !== "object" || input === null || Array.isArray(input)) {
      return failing([], mismatch(`a map with one of ${names.join(", ")}, such as { tcp: 127.0.0.1:5432 }`, input));
    }
    const keys = Object.keys(input);
    const found = keys.filter((key) => Object.hasOwn(schemas, key));
    if (found.length === 1) return schemas[found[0]!]!;
    if (found.length > 1) return failing([found[1]!], `${found.join(" and ")}: expected one kind; keep one of them`);
    const noted = keys.find((key) => options.note(key) !== undefined) ?? keys.find((key) => didYouMean(key, names) !== undefined);
    if (noted === undefined)
      return failing([], `expected one of ${names.join(", ")}, got ${keys.length === 0 ? "an empty map" : keys.map(shown).join(", ")}`);
    return failing([noted], options.note(noted) ?? `unknown key; ${didYouMean(noted, names)!}`);
  });
}

/** Refuses with these words, at the key `path` or at the whole. */
function failing<T>(path: readonly string[], says: string): v.GenericSchema<unknown, T> {
  const check = v.rawCheck<unknown>(({ dataset, addIssue }) => {
    const steps = path.map((key) => ({ type: "object" as const, origin: "key" as const, input: {}, key, value: undefined }));
    addIssue({ message: says, input: dataset.value, ...(steps.length > 0 ? { path: steps as unknown as [v.IssuePathItem] } : {}) });
  });
  return v.pipe(v.unknown(), check) as v.GenericSchema<unknown, T>;
}
