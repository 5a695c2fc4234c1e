#!/usr/bin/env bash
# Installs this checkout into the Python of a notebook's runtime, which has no environment of its own. The notebooks in
# experiments/colabs/ call it first; where it was called before, it does nothing.
#
# bash launch/colab.sh [PYTHON]    (default: python3)
#
# A jax that fits stays as it is, with its plugins for GPU or TPU. Any other is replaced, together with these. NumPy stays,
# because the notebook has loaded it already and would find the files of another version.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${1:-python3}"

if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'; then
  echo "error: $("$python" --version) is the runtime's; valid: Python 3.11 to 3.13" >&2
  exit 2
fi

# Prints the version of a package, or nothing.
version() {
  "$python" -c 'if True:
    import importlib.metadata, sys
    try:
        print(importlib.metadata.version(sys.argv[1]))
    except importlib.metadata.PackageNotFoundError:
        pass
  ' "$1"
}

if [ -n "$(version sparse_jax)" ]; then exit 0; fi
before="$(version jax)"
extras=study
case "$before" in
  0.10.* | 0.11.*) ;;
  *)
    # plugins have to be of the same version as jax
    if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi >/dev/null 2>&1; then
      # a second plugin beside that of another CUDA would be for the same devices
      if [ -n "$(version jax-cuda12-plugin)" ]; then extras="$extras,cuda12"; else extras="$extras,cuda"; fi
    elif [ -n "${TPU_NAME:-}${TPU_WORKER_ID:-}${TPU_ACCELERATOR_TYPE:-}${COLAB_TPU_ADDR:-}" ]; then
      extras="$extras,tpu"
    fi
    ;;
esac
numpy="$(version numpy)"
stays="$(mktemp)"
trap 'rm -f "$stays"' EXIT
case "$numpy" in
  "" | 0.* | 1.*) ;;
  *) echo "numpy==$numpy" >"$stays" ;;
esac
echo "installing sparse_jax into $("$python" -c 'import sys; print(sys.prefix)') (a minute or two)"
"$python" -m pip install --quiet --disable-pip-version-check --constraint "$stays" -e ".[$extras]"
if [ -n "$numpy" ] && [ "$numpy" != "$(version numpy)" ]; then
  echo "error: numpy $numpy does not fit and was replaced by $(version numpy); restart the runtime, then run this again" >&2
  exit 3
fi
after="$(version jax)"
if [ -n "$before" ] && [ "$before" != "$after" ]; then
  echo "jax $before does not fit and was replaced by $after: if it was imported before, restart the runtime"
fi
