import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { chromium, type Browser } from 'playwright-core';

/** Starts the Chromium that `CHROMIUM` names, or else the one in `PATH`. Without one it says so, and the process ends. */
export async function launchChromium(): Promise<Browser> {
  const executablePath = process.env.CHROMIUM || findInPath('chromium') || findInPath('google-chrome');
  if (!executablePath) {
    console.error('There is no Chromium on this machine: run npm run setup -- browser first, or name one in CHROMIUM');
    process.exit(1);
  }
  const quiet = [
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    // A name that is neither local nor secure, as Heroku's would be over http.
    '--host-resolver-rules=MAP hello.example 127.0.0.1',
  ];
  // As root Chromium has no sandbox to run in.
  const args = process.getuid?.() === 0 ? ['--no-sandbox', ...quiet] : quiet;
  return chromium.launch({ executablePath, args });
}

function findInPath(command: string): string | undefined {
  const files = (process.env.PATH ?? '').split(delimiter).map((folder) => join(folder, command));
  return files.find((file) => {
    try {
      accessSync(file, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
