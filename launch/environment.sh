# Sourced by the other scripts: makes .venv once, installs this checkout into it, and puts it on the path.
#
# SPARSE_JAX_PYTHON   the Python to make the environment with (default: python3; 3.11 to 3.13)
# SPARSE_JAX_VENV     where the environment is (default: .venv beside setup.cfg)
# SPARSE_JAX_EXTRAS   extras of setup.cfg to install, such as "test" or "test,cuda" (set by the scripts)

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
elif [ -e /dev/accel0 ] || [ -d /dev/vfio ] && [ -n "${TPU_NAME:-}" ]; then
  extras="${extras:+$extras,}tpu"
fi

# What is installed is remembered by the contents of setup.cfg, so that a repeated call starts at once.
stamp="$venv/installed"
wanted="$extras $(cksum < setup.cfg)"
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
  echo "installing into $venv (a minute or two)" >&2
  [ -x "$venv/bin/python" ] || "$python" -m venv "$venv" || exit 1
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e ".${extras:+[$extras]}" || exit 1
  echo "$wanted" > "$stamp"
fi
export PATH="$PWD/$venv/bin:$PATH"
