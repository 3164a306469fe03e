#!/bin/sh
# Checks types, rules and layout of everything that is not compiled by `npm run build`.
set -eu

# The page's script becomes a file of its own. Its lines keep their numbers.
mkdir -p build
sed '1,/<script>/s/.*//; /<\/script>/,$s/.*//' views/hello.html >build/hello.js

for part in test tools bench views; do tsc -p "$part" --noEmit; done
eslint .
prettier --check .
