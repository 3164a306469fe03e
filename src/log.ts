// The log as a person at a terminal reads it: plain lines in place of JSON.

/** Takes the log, line by line. */
export interface LogStream {
  write(line: string): void;
}

interface LogLine {
  readonly msg: string;
  readonly req?: { readonly method: string; readonly url: string };
  readonly res?: { readonly statusCode: number };
  readonly err?: { readonly stack: string };
}

/** Writes the message of each line, then its request, status and stack if it has them. */
export function plainLog(terminal: LogStream): LogStream {
  return {
    write(line) {
      const { msg, req, res, err } = JSON.parse(line) as LogLine;
      const request = req && `${req.method} ${req.url}`;
      const parts = [msg, request, res?.statusCode, err?.stack].filter((part) => part !== undefined);
      terminal.write(`${parts.join(' ')}\n`);
    },
  };
}
