#!/usr/bin/env bash
# Makes the Python environment of tests/python, where its requirements have changed since.
#
# In: tests/python/requirements.txt. Out: .cache/python/bin/python. Exit code 3: this machine's
# Python cannot make environments, and nothing was made.
set -euo pipefail
cd "$(dirname "$0")/.."

wanted=tests/python/requirements.txt
venv=.cache/python
if cmp -s "$wanted" "$venv/.installed"; then exit 0; fi
if ! python3 -c 'import ensurepip, venv' 2> /dev/null; then
  echo "Python cannot make environments here: install python3-venv." >&2
  exit 3
fi
rm -rf "$venv"
python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$wanted"
cp "$wanted" "$venv/.installed"
