# Sourced by the other scripts: makes .venv once, installs this checkout into it, and puts it on the path.
#
# SPARSE_JAX_PYTHON   the Python to make the environment with (default: python3; 3.11 to 3.13)
# SPARSE_JAX_VENV     where the environment is (default: .venv beside setup.cfg)
# SPARSE_JAX_EXTRAS   extras of setup.cfg to install, such as "test" or "test,cuda" (set by the scripts)

# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
python="${SPARSE_JAX_PYTHON:-python3}"
venv="${SPARSE_JAX_VENV:-.venv}"

if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
  echo "error: SPARSE_JAX_PYTHON: $python is not Python 3.11 to 3.13; valid: a path such as python3.12" >&2
  exit 2
fi

# The accelerator decides which jax is installed; without one, the plain CPU build.
extras="${SPARSE_JAX_EXTRAS:-}"
if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi >/dev/null 2>&1; then
  extras="${extras:+$extras,}cuda"
elif [ -e /dev/accel0 ] || { [ -d /dev/vfio ] && [ -n "${TPU_NAME:-}" ]; }; then
  extras="${extras:+$extras,}tpu"
fi

# What is installed is remembered, with the contents of setup.cfg, so that a repeated call starts at once.
stamp="$venv/installed-${extras//,/-}"
wanted="$(cksum < setup.cfg)"
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
  echo "installing into $venv (a minute or two)" >&2
  made=""
  if [ ! -x "$venv/bin/python" ]; then
    [ -e "$venv" ] || made="$venv"
    "$python" -m venv "$venv" >/dev/null || true  # whether it worked is seen by its pip
  fi
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    [ -z "$made" ] || rm -rf "$made"
    echo "error: SPARSE_JAX_VENV: $venv has no pip; valid: a new folder and a Python with venv" \
      "(Debian: apt install python3-venv)" >&2
    exit 2
  fi
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e ".${extras:+[$extras]}" || exit 1
  echo "$wanted" > "$stamp"
fi
venv="$(cd "$venv" && pwd)"
export PATH="$venv/bin:$PATH"
# Large pages: see experiments/__init__.py.
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}"
