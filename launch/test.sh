#!/usr/bin/env bash
# Sets up and runs the linter, the type checker and the tests. Arguments go to pytest: bash launch/test.sh tests/model -k sink
#
# bash launch/test.sh        what every change must pass
# bash launch/test.sh --all  also the tests that need minutes (marked slow), all with XLA's optimizations, as users have
#
# Without other arguments, tests of code that treats a single device differently run a second time on one, as most users
# have it. The commands that tests start run on one anyway. The tests of a file stay in one worker, which makes their fixtures
# and compiles their programs only once.
#
# The variables of launch/environment.sh choose Python and environment.
set -euo pipefail
export SPARSE_JAX_EXTRAS="test"
source "$(dirname "$0")/environment.sh"
chosen=()
if [ "${1:-}" = --all ]; then
  chosen=(-m "slow or not slow")
  export SPARSE_JAX_TEST_OPTIMIZED=1
  shift
fi
# otherwise every process that a test starts would compile these sources again
unset PYTHONDONTWRITEBYTECODE
ruff check .
ruff format --check --quiet .
python -m mypy --no-error-summary
python -m pytest -n 2 --dist loadfile ${chosen[@]+"${chosen[@]}"} "$@"
if [ $# -eq 0 ]; then
  export SPARSE_JAX_TEST_DEVICES=1
  exec python -m pytest -n 2 --dist loadfile ${chosen[@]+"${chosen[@]}"} \
    tests/topk/test_rows.py tests/topk/test_chunks.py tests/model/test_attention.py
fi
