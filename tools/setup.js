// Installs what the tests need beyond npm: `npm run setup [-- browser] [bench]`. Without the right to install, it prints
// the command.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Programs by part of the product, and the packages that bring them. Only Debian's benchmark packages are known. */
const PARTS = {
  test: ['memcached', 'saslpasswd2'],
  browser: ['chromium'],
  bench: ['redis-server', 'nginx', 'php-fpm'],
};
const PACKAGES = {
  'apt-get': {
    saslpasswd2: 'sasl2-bin libsasl2-modules',
    chromium: 'chromium fonts-dejavu-core',
    nginx: 'nginx-light',
    'php-fpm': 'php-fpm php-memcached',
  },
  dnf: { saslpasswd2: 'cyrus-sasl cyrus-sasl-plain' },
  apk: { saslpasswd2: 'cyrus-sasl', chromium: 'chromium font-dejavu' },
  pacman: { saslpasswd2: 'cyrus-sasl', chromium: 'chromium ttf-dejavu' },
  brew: { 'redis-server': 'redis', 'php-fpm': 'php' },
};
const INSTALL = {
  'apt-get': 'apt-get install -y --no-install-recommends',
  dnf: 'dnf install -y',
  apk: 'apk add --update-cache',
  pacman: 'pacman -S --needed --noconfirm',
  brew: 'brew install',
};

/** Installs what these parts need, or says how to, and gives the exit status. */
export function setUp(parts) {
  if (parts.some((part) => !(part in PARTS))) return end(2, 'Usage: npm run setup [-- browser] [bench]');
  // Homebrew's memcached knows no logins, so nothing needs them there.
  const isNeeded = (program) => !isInstalled(program) && (program !== 'saslpasswd2' || manager() !== 'brew');
  const missing = ['test', ...parts].flatMap((part) => PARTS[part]).filter(isNeeded);
  if (missing.length === 0) return end(0, 'Everything is installed.');
  const command = installation(missing);
  if (!command || needsSudo()) return end(1, advice(missing));
  console.log(command);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const steps = manager() === 'apt-get' ? ['apt-get update -q', command] : [command];
  for (const step of steps) {
    const [program, ...args] = step.split(' ');
    const { status } = spawnSync(program, args, { stdio: 'inherit', env });
    if (status !== 0) return end(1, `${step} failed`);
  }
  return end(0, 'Everything is installed now.');
}

function end(status, line) {
  console.error(line);
  return status;
}

/** How to get these programs on this machine, in a sentence. */
export function advice(programs) {
  const list = programs.join(', ');
  if (process.platform === 'win32')
    return `${list}: not on Windows, but in WSL: https://learn.microsoft.com/windows/wsl/install`;
  const command = installation(programs);
  if (!command) return `Install these by your package manager first: ${list}`;
  return `Not installed: ${list}. Run: ${needsSudo() ? 'sudo ' : ''}${command}`;
}

function needsSudo() {
  return process.getuid?.() !== 0 && manager() !== 'brew';
}

/** The command that installs these programs, if the package manager of this machine is a known one. */
function installation(programs) {
  const known = manager();
  return known && `${INSTALL[known]} ${programs.map((program) => PACKAGES[known][program] ?? program).join(' ')}`;
}

function manager() {
  return Object.keys(INSTALL).find(isInstalled);
}

/** Whether there is such a program in PATH, or where Debian keeps what root runs. php-fpm's name ends in a version. */
export function isInstalled(program) {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin'];
  return folders.some((folder) => {
    try {
      const name = program === 'php-fpm' ? readdirSync(folder).find((file) => file.startsWith(program)) : program;
      accessSync(join(folder, name ?? program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
