/** What pipegate needs of a logger. Fields are flat values; the writer escapes them. See log-writer.ts for the one that the command uses. */

export type LogValue = string | number | boolean | undefined | readonly string[];
export type LogFields = Readonly<Record<string, LogValue>>;
export type LogLevel = "debug" | "info" | "warn" | "error";

export interface Logger {
  /** `event` is a fixed word pair such as "pipe open"; what varies goes into `fields`. */
  debug(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
}

const nothing = (): void => {};
export const silentLogger: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing };

/** A program's logger whose throws reach nobody: what it logs about must go on. */
export function unthrowing(logger: Logger): Logger {
  const quietly =
    (level: LogLevel) =>
    (event: string, fields?: LogFields): void => {
      try {
        logger[level](event, fields);
      } catch {
        // there is nobody to tell: telling is what failed
      }
    };
  return { debug: quietly("debug"), info: quietly("info"), warn: quietly("warn"), error: quietly("error") };
}
