/** Why a server cannot be reached, or did not carry out a command. */
export type ErrorCode =
  | 'UNAVAILABLE'
  | 'WARMING_UP'
  | 'LOGIN_REFUSED'
  | 'LOGIN_REQUIRED'
  | 'LOGIN_UNSUPPORTED'
  | 'NOT_MEMCACHED'
  | 'COMMAND_REFUSED';

/** What is wrong with a server. */
export class MemcachedError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
