/** A Memcached server, and its login (SASL PLAIN) if it has one. */
export interface MemcachedServer {
  readonly host: string;
  readonly port: number;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
}

/** Where a client says what has changed. */
export interface Log {
  info(message: string): void;
  warn(message: string): void;
}

/** Why a server cannot be reached, or did not carry out a command. */
export type ErrorCode =
  | 'UNAVAILABLE'
  | 'WARMING_UP'
  | 'LOGIN_REFUSED'
  | 'LOGIN_REQUIRED'
  | 'LOGIN_UNSUPPORTED'
  | 'NOT_MEMCACHED'
  | 'COMMAND_REFUSED';

/** What is wrong with a server. The message continues a sentence about it: "it refuses the login". */
export class MemcachedError extends Error {
  override readonly name = 'MemcachedError';
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
