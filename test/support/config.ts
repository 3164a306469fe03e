import { readConfig, type Config } from '../../src/config.js';

/** What an environment asks for. Throws an Error with all complaints where it is refused. */
export function configOf(env: Record<string, string>): Config {
  return readConfig(env, (complaints) => {
    throw new Error(complaints);
  });
}
