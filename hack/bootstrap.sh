#!/usr/bin/env bash
# Make .venv: the locked packages and this project itself, editable. Run by make; safe to run again.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
  echo "RenderFleet needs Python 3.11 or newer; '$python' is not. Name one: make PYTHON3=/path/to/python3.11 …" >&2
  exit 1
}

if ! .venv/bin/python -c '' 2>/dev/null; then
  echo "making .venv (usually 40 s, once)"
  if ! "$python" -m venv .venv 2>/dev/null; then
    # Debian ships venv apart from Python.
    echo "apt: installing python3-venv"
    apt-get -qq update && apt-get -qq install --yes --no-install-recommends python3-venv >/dev/null
    "$python" -m venv .venv
  fi
fi
[ -x .venv/bin/uv ] || .venv/bin/python -m pip install --quiet --disable-pip-version-check \
  --require-hashes --no-deps -r <(awk '/^[a-z]/{on=/^uv==/} on' requirements/dev.txt)
.venv/bin/uv pip sync --quiet --require-hashes --python .venv/bin/python requirements/dev.txt
.venv/bin/uv pip install --quiet --no-deps --python .venv/bin/python --editable .
touch .venv/ready
