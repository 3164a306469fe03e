import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { chromium, type Browser } from 'playwright-core';

/** Starts the Chromium that `CHROMIUM` names, or else the one in `PATH`. Without one it says so, and the process ends. */
export async function launchChromium(): Promise<Browser> {
  const folders = (process.env.PATH ?? '').split(delimiter);
  const files = ['chromium', 'google-chrome'].flatMap((name) => folders.map((folder) => join(folder, name)));
  const executablePath = process.env.CHROMIUM || files.find((file) => existsSync(file));
  if (!executablePath) {
    console.error('There is no Chromium on this machine: run npm run setup -- browser first, or name one in CHROMIUM');
    process.exit(1);
  }
  // A name that is neither local nor secure, as Heroku's would be over http.
  return chromium.launch({ executablePath, args: ['--host-resolver-rules=MAP hello.example 127.0.0.1'] });
}
