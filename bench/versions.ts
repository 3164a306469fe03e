import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { delimiter } from 'node:path';

/** Debian keeps nginx and php-fpm where only root looks. */
export const env = { PATH: [process.env.PATH, '/usr/sbin'].join(delimiter) };

export const fpm = readdirSync('/usr/sbin').find((name) => name.startsWith('php-fpm')) ?? 'php-fpm';
const nginx = versionOf('nginx', 'nginx', '-v');
/** Undefined if something is not installed. */
export const php =
  /^memcached$/m.test(output(fpm, '-m')) && nginx ? `${versionOf('PHP', fpm, '-v')}, ${nginx}` : undefined;
export const redis = versionOf('Redis', 'redis-server', '--version');

/** All that takes part beside Node.js. */
export function versions(): string {
  const programs = [versionOf('memcached', 'memcached', '-V'), redis, php];
  const packages = ['../package.json', 'package.json'].flatMap((file) => {
    const text = readFileSync(new URL(file, import.meta.url), 'utf8');
    const { dependencies } = JSON.parse(text) as { dependencies: Record<string, string> };
    return Object.entries(dependencies).map(([name, version]) => `${name} ${version}`);
  });
  return [...programs.filter(Boolean), ...new Set(packages)].join(', ');
}

function versionOf(name: string, command: string, argument: string): string | undefined {
  const version = /\d+\.\d+[.\d]*/.exec(output(command, argument))?.[0];
  return version && `${name} ${version}`;
}

/** What a program prints; nothing if it is not installed. */
function output(command: string, argument: string): string {
  const { stdout, stderr } = spawnSync(command, [argument], { env, encoding: 'utf8' });
  return `${stdout}${stderr}`;
}
