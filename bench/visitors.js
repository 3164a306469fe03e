import { Agent, request } from 'node:http';

/** Asks once for the greeting, on a connection of its own. PHP's lock can make a visitor wait for long. */
export function greet(port, cookie) {
  return new Promise((resolve, reject) => {
    const headers = cookie ? { cookie } : {};
    const asked = request(
      { host: '127.0.0.1', port, headers, agent: new Agent(), timeout: 180_000 },
      async (response) => {
        let body = '';
        for await (const chunk of response.setEncoding('utf8')) body += chunk;
        const count = Number(/^Hello #(\d+)\n$/.exec(body)?.[1]);
        const set = (response.headers['set-cookie'] ?? []).map((line) => line.split(';', 1)[0]).join('; ');
        resolve({ status: response.statusCode, headers: response.headers, body, count, cookie: set });
      },
    );
    asked.on('timeout', () => asked.destroy(new Error('no answer within three minutes')));
    asked.on('error', reject);
    asked.end();
  });
}

/** The cookies of so many new visitors. */
export async function newVisitors(port, number) {
  const cookies = [];
  while (cookies.length < number) {
    const { status, cookie } = await greet(port);
    if (status !== 200 || !cookie) throw new Error(`a new visitor gets status ${status} and the cookie "${cookie}"`);
    cookies.push(cookie);
  }
  return cookies;
}
