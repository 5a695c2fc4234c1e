#!/usr/bin/env bash
# Sets up and runs the linter and the tests. Arguments go to pytest: bash launch/test.sh tests/model -k sink
#
# The variables of launch/environment.sh choose Python and environment.
set -euo pipefail
export SPARSE_JAX_EXTRAS="test"
source "$(dirname "$0")/environment.sh"
ruff check .
ruff format --check --quiet .
exec python -m pytest -n 2 "$@"
