#!/bin/sh
# Installs what the tests need beyond npm: `setup.sh [browser] [bench]`. As root it runs the installer; for anybody else
# it prints the command. `setup.sh check` only says whether `npm test` has everything.
set -eu

missing=''
need() { # COMMAND PACKAGE...: in PATH, or in /usr/sbin, where Debian keeps what root runs
  command=$1
  shift
  [ -n "$(PATH=$PATH:/usr/sbin command -v "$command")" ] || missing="$missing $*"
}

need memcached memcached
need saslpasswd2 sasl2-bin libsasl2-modules
for part in "$@"; do
  case $part in
  check) ;;
  browser) need chromium chromium fonts-dejavu-core ;;
  bench)
    need redis-server redis-server
    need nginx nginx-light
    ls /usr/sbin/php-fpm* >/dev/null 2>&1 || need php-fpm php-fpm php-memcached
    ;;
  *)
    echo "Usage: npm run setup [-- browser] [bench]" >&2
    exit 2
    ;;
  esac
done

if [ "${1-}" = check ]; then
  [ -d node_modules ] || { echo 'Run npm ci first' >&2; exit 1; }
  [ -n "$missing" ] || exit 0
  echo "npm test needs$missing; npm run setup installs it" >&2
  exit 1
fi
if [ -z "$missing" ]; then
  echo "Everything is there."
  exit 0
fi
if command -v brew >/dev/null; then
  install="brew install$(echo "$missing" | sed 's/ sasl2-bin libsasl2-modules//; s/ fonts-dejavu-core//; s/nginx-light/nginx/; s/redis-server/redis/; s/php-fpm php-memcached/php/')"
else
  install="apt-get install -y --no-install-recommends$missing"
fi
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  echo "$install"
  apt-get update -q
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive $install
  echo "Everything is there now."
else
  echo "Run this, as root if need be:"
  echo "$install"
  exit 1
fi
