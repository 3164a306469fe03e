// Heroku's article on PHP sessions: php-fpm behind nginx, the memcached extension's session handler with its defaults.
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort, listens, start, stop } from '../../tools/processes.ts';
import type { Running } from '../contenders.ts';
import { env, fpm } from '../versions.ts';

/** What Heroku's buildpack runs in the 512 MB of a Standard-1X dyno. */
const WORKERS = 4;
const SCRIPT = join(import.meta.dirname, 'session.php');
export async function startPhp(memcachedPort: number): Promise<Running> {
  const folder = mkdtempSync(join(tmpdir(), 'hello-n-bench-'));
  const removeFolder = (): void => rmSync(folder, { recursive: true, force: true });
  process.once('exit', removeFolder);
  // The workers run as nobody.
  chmodSync(folder, 0o755);
  const group = execFileSync('id', ['-gn', 'nobody']).toString().trim();
  const port = await freePort();
  const began = performance.now();
  writeFileSync(join(folder, 'fpm.conf'), fpmConfiguration(folder, group, memcachedPort));
  writeFileSync(join(folder, 'nginx.conf'), nginxConfiguration(folder, group, port));
  const children = [
    start(fpm, ['--nodaemonize', '--fpm-config', join(folder, 'fpm.conf')], { env, stdio: 'ignore' }),
    start('nginx', ['-p', folder, '-e', 'nginx.log', '-c', 'nginx.conf'], { env, stdio: 'ignore' }),
  ];
  for (const child of children) await listens(child, port);
  return {
    port,
    children,
    startTime: performance.now() - began,
    async stop() {
      await Promise.all(children.map((child) => stop(child)));
      removeFolder();
    },
  };
}

function fpmConfiguration(folder: string, group: string, memcachedPort: number): string {
  return `
[global]
error_log = ${folder}/php-fpm.log
[www]
user = nobody
group = ${group}
listen = ${folder}/php.sock
listen.mode = 0666
listen.backlog = 1024
pm = static
pm.max_children = ${WORKERS}
php_value[session.save_handler] = memcached
php_value[session.save_path] = 127.0.0.1:${memcachedPort}
php_value[memcached.sess_binary_protocol] = 1
php_flag[display_errors] = off
`;
}

function nginxConfiguration(folder: string, group: string, port: number): string {
  const kinds = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  return `
daemon off;
user nobody ${group};
worker_processes auto;
pid nginx.pid;
events { worker_connections 2048; }
http {
  access_log off;
  keepalive_requests 1000000;
  ${kinds.map((kind) => `${kind}_temp_path ${kind};`).join('\n  ')}
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
