#!/bin/sh
# Installs what the tests need beyond npm: `setup.sh [browser] [bench]`. Runs the installer as root, else prints its line.
# `setup.sh check` only says whether everything for `npm test` is there.
set -eu

missing=''
need() { # COMMAND PACKAGE...: in PATH, or where Debian keeps what is for root
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
    need wrk wrk
    need nginx nginx-light
    ls /usr/sbin/php-fpm* >/dev/null 2>&1 || need php-fpm php-fpm php-memcached
    ;;
  *)
    echo "usage: npm run setup [-- browser] [bench]" >&2
    exit 2
    ;;
  esac
done
[ -n "$missing" ] || exit 0

if [ "${1-}" = check ]; then
  echo "These tests need$missing: run npm run setup first" >&2
  exit 1
fi
if command -v brew >/dev/null; then
  install="brew install$(echo "$missing" | sed 's/ sasl2-bin libsasl2-modules//; s/ fonts-dejavu-core//; s/nginx-light/nginx/; s/php-fpm php-memcached/php/')"
else
  install="apt-get install -y --no-install-recommends$missing"
fi
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  echo "$install"
  apt-get update -q
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive $install
else
  echo "Please run this first, as root where it needs to be:"
  echo "$install"
  exit 1
fi
