// Heroku's article on PHP sessions: php-fpm behind nginx, the memcached extension's session handler with its defaults.
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort, installed, outputOf, start, stop, until, versionOf } from '../processes.js';
import { greet } from '../visitors.js';

/** What Heroku's buildpack runs in the 512 MB of a Standard-1X dyno. */
const WORKERS = 4;
const SCRIPT = fileURLToPath(new URL('session.php', import.meta.url));

const fpm = installed('php-fpm', 'php-fpm8.2', 'php-fpm8.3', 'php-fpm8.4', 'php-fpm8.5');
const nginx = installed('nginx');

/** The versions of all that takes part, or undefined if something is not installed. */
export const versions =
  fpm && nginx && /^memcached$/m.test(outputOf(fpm, '-m'))
    ? { PHP: versionOf(fpm, '-v'), nginx: versionOf(nginx, '-v') }
    : undefined;

export async function startPhp(memcached) {
  const folder = mkdtempSync(join(tmpdir(), 'hello-n-bench-'));
  const removeFolder = () => rmSync(folder, { recursive: true, force: true });
  process.on('exit', removeFolder);
  // The workers run as nobody, who has to get in.
  chmodSync(folder, 0o755);
  const port = await freePort();
  const files = { fpm: join(folder, 'php-fpm.conf'), nginx: join(folder, 'nginx.conf') };
  writeFileSync(files.fpm, fpmConfiguration(folder, memcached.address));
  writeFileSync(files.nginx, nginxConfiguration(folder, port));
  const children = [
    start(fpm, ['--nodaemonize', '--fpm-config', files.fpm]),
    start(nginx, ['-p', folder, '-e', join(folder, 'nginx.log'), '-c', files.nginx]),
  ];
  const answers = () => greet(port).then(({ count }) => count === 1);
  await until('PHP answers', () => answers().catch(() => false));
  return { port, children, stop: () => Promise.all(children.map(stop)).then(removeFolder) };
}

function fpmConfiguration(folder, memcachedAddress) {
  return `
[global]
error_log = ${folder}/php-fpm.log
[www]
user = nobody
group = ${execFileSync('id', ['-gn', 'nobody']).toString().trim()}
listen = ${folder}/php.sock
listen.mode = 0666
listen.backlog = 1024
pm = static
pm.max_children = ${WORKERS}
php_value[session.save_handler] = memcached
php_value[session.save_path] = ${memcachedAddress}
php_value[memcached.sess_binary_protocol] = 1
php_flag[display_errors] = off
`;
}

function nginxConfiguration(folder, port) {
  const kinds = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  return `
daemon off;
user nobody ${execFileSync('id', ['-gn', 'nobody']).toString().trim()};
worker_processes auto;
pid ${folder}/nginx.pid;
events { worker_connections 2048; }
http {
  access_log off;
  keepalive_requests 1000000;
  ${kinds.map((kind) => `${kind}_temp_path ${folder}/${kind};`).join('\n  ')}
  server {
    listen 127.0.0.1:${port} backlog=1024;
    location / {
      fastcgi_pass unix:${folder}/php.sock;
      fastcgi_read_timeout 180s;
      fastcgi_param SCRIPT_FILENAME ${SCRIPT};
      fastcgi_param SCRIPT_NAME /;
      fastcgi_param REQUEST_METHOD $request_method;
      fastcgi_param REQUEST_URI $request_uri;
      fastcgi_param QUERY_STRING $query_string;
      fastcgi_param SERVER_PROTOCOL $server_protocol;
      fastcgi_param REMOTE_ADDR $remote_addr;
    }
  }
}
`;
}
