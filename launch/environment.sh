# Sourced by the other scripts: makes .venv once, installs this checkout into it, and puts it on the path.
#
# SPARSE_JAX_PYTHON       the Python to make the environment with (default: python3; 3.11 to 3.13)
# SPARSE_JAX_VENV         where the environment is (default: .venv beside setup.cfg)
# SPARSE_JAX_ACCELERATOR  what jax is installed for: cpu, cuda or tpu (default: what is found on this machine)
# SPARSE_JAX_EXTRAS       extras of setup.cfg to install, such as "test" or "gcs,plan" (set by the scripts)

# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
python="${SPARSE_JAX_PYTHON:-python3}"
venv="${SPARSE_JAX_VENV:-.venv}"

if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
  echo "error: SPARSE_JAX_PYTHON: $python is not Python 3.11 to 3.13; valid: a path such as python3.12" >&2
  exit 2
fi

# Prints which accelerator this machine has; an error if it cannot tell whether a device is one.
accelerator() {
  local found
  found="$(compgen -G '/dev/vfio/[0-9]*' || compgen -G '/dev/nvidia[0-9]*')" || true
  if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi >/dev/null 2>&1; then
    echo cuda
  elif compgen -G '/dev/accel[0-9]*' >/dev/null; then
    echo tpu
  elif [ -n "${TPU_NAME:-}${TPU_WORKER_ID:-}${TPU_ACCELERATOR_TYPE:-}" ] && compgen -G '/dev/vfio/*' >/dev/null; then
    echo tpu
  elif [ -n "$found" ]; then
    echo "error: SPARSE_JAX_ACCELERATOR: not set, and ${found%%$'\n'*} may be an accelerator; valid: tpu (of Google), cuda" \
      "(of NVIDIA; nvidia-smi finds none here), cpu (none is to be used)" >&2
    exit 2
  else
    echo cpu
  fi
}

chosen="${SPARSE_JAX_ACCELERATOR:-}"
[ -n "$chosen" ] || chosen="$(accelerator)" || exit 2
extras="${SPARSE_JAX_EXTRAS:-}"
case "$chosen" in
  cpu) ;;
  cuda | tpu) extras="${extras:+$extras,}$chosen" ;;
  *)
    echo "error: SPARSE_JAX_ACCELERATOR: '$chosen'; valid: cpu, cuda, tpu" >&2
    exit 2
    ;;
esac

# What is installed is remembered, with the contents of setup.cfg and the environment's folder, so that a repeated
# call starts at once.
stamp="$venv/installed-${extras//,/-}"
wanted="$(cksum < setup.cfg)"

installed() {
  [ "$(head -n 1 "$stamp" 2>/dev/null)" = "$wanted" ] && usable
}

# The environment's Python may be missing or changed, and its programs contain the path of the folder it was made in.
usable() {
  local folder
  "$venv/bin/python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("pip") is None)' \
    2>/dev/null || return 1
  for folder in "$venv"/installed-*; do
    folder="$(sed -n 2p "$folder" 2>/dev/null)"
    [ -z "$folder" ] || [ "$folder" -ef "$venv" ] || return 1
  done
}

# Waits while another shell sets up; the lock ends with the last process that has the file open.
lock() {
  "$python" -c 'if True:
    import fcntl, signal, sys
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"waiting until another shell has set up {sys.argv[1]}", file=sys.stderr, flush=True)
        fcntl.flock(9, fcntl.LOCK_EX)
    except OSError as error:
        print(f"setup.cfg cannot be locked ({error.strerror}); do not set up in two shells at once", file=sys.stderr)
  ' "$venv"
}

set_up() {
  local made="" again=""
  lock
  if installed; then return; fi
  if [ -e "$venv/bin/python" ] || [ -L "$venv/bin/python" ] && ! usable; then
    # only what these scripts have made, where nobody else would put anything
    if [ -n "${SPARSE_JAX_VENV:-}" ] || ! compgen -G "$venv/installed-*" >/dev/null; then
      echo "error: SPARSE_JAX_VENV: $venv has no pip, or its Python is missing or changed; valid: a new folder and a" \
        "Python with venv (Debian: apt install python3-venv)" >&2
      exit 2
    fi
    echo "rebuilding $venv: its Python is missing or changed, or it was made in another folder" >&2
    again=--clear
  fi
  echo "installing into $venv, jax for $chosen (a minute or two)" >&2
  if [ -n "$again" ] || [ ! -x "$venv/bin/python" ]; then
    [ -e "$venv" ] || made="$venv"
    "$python" -m venv $again "$venv" >/dev/null || true  # whether it worked is seen by its pip
  fi
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    [ -z "$made" ] || rm -rf "$made"
    echo "error: SPARSE_JAX_VENV: $venv has no pip; valid: a new folder and a Python with venv" \
      "(Debian: apt install python3-venv)" >&2
    exit 2
  fi
  # into this environment, wherever else the user's pip is told to install
  PIP_USER=0 PIP_TARGET="" PIP_PREFIX="" PIP_ROOT="" \
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e ".${extras:+[$extras]}" || exit 1
  printf '%s\n' "$wanted" "$(cd "$venv" && pwd)" > "$stamp"
}

installed || set_up 9<>setup.cfg
venv="$(cd "$venv" && pwd)"
export PATH="$venv/bin:$PATH"
# Large pages: see experiments/__init__.py.
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}"
