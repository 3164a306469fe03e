/** A Memcached server, and its login (SASL PLAIN) if it has one. */
export interface MemcachedServer {
  readonly host: string;
  readonly port: number;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
}

/** Where a client says that its server is lost, is back, or refuses something. */
export interface Log {
  info(message: string): void;
  warn(message: string): void;
}

/** Why a server cannot be reached, or did not carry out a command. */
export type ErrorCode =
  // These may pass: there is no connection, or no response in time; the login of a new add-on does not work yet.
  | 'UNAVAILABLE'
  | 'WARMING_UP'
  // These need somebody to change something.
  | 'LOGIN_REFUSED'
  | 'LOGIN_REQUIRED'
  | 'LOGIN_UNSUPPORTED'
  | 'NOT_MEMCACHED'
  // The server responds, but refuses this command.
  | 'COMMAND_REFUSED';

/** Why a server failed. The message leaves out its name, which the log and `Client.call` put in front. */
export class MemcachedError extends Error {
  override readonly name = 'MemcachedError';
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
