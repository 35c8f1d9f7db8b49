#!/usr/bin/env bash
# Installs the npm packages of some folders exactly as locked, where that was not done already.
#
# In: folders with a package-lock.json. Out: their node_modules. Invariant: a folder whose lock
# has not changed since the last installation is left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

# Some registries have the packages of this platform only: npm then finds the lock incomplete, and
# takes what package.json names, which is exact too.
install() {
  local quietly=(--silent --no-audit --no-fund)
  npm ci "${quietly[@]}" ||
    { grep -q '"deno"' package.json && npm install "${quietly[@]}" --no-package-lock; }
}

for folder in "$@"; do
  lock=$folder/package-lock.json
  mark=$folder/node_modules/.locked
  if [ -f "$lock" ] && ! cmp -s "$lock" "$mark"; then
    echo "npm ci in $folder"
    (cd "$folder" && install)
    cp "$lock" "$mark"
  fi
done
