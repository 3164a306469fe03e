// The log as a person at a terminal reads it: plain lines in place of JSON.

/** Takes log lines, each a JSON object. */
export interface LogStream {
  write(line: string): void;
}

interface LogLine {
  readonly msg: string;
  readonly req?: { readonly method: string; readonly url: string };
  readonly res?: { readonly statusCode: number };
  readonly err?: { readonly stack: string };
}

/** Writes of each line its message, then the request, the status and the stack that it has. The level is left out. */
export function plainLog(terminal: { write(text: string): unknown }): LogStream {
  return {
    write(line) {
      const { msg, req, res, err } = JSON.parse(line) as LogLine;
      const request = req && `${req.method} ${req.url}`;
      const parts = [msg, request, res?.statusCode, err?.stack].filter((part) => part !== undefined);
      terminal.write(`${parts.join(' ')}\n`);
    },
  };
}
