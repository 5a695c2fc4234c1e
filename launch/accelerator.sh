#!/usr/bin/env bash
# Measures on a machine that has an accelerator and a jax for it, but no network: brings what else is needed as wheels.
#
# bash launch/accelerator.sh wheels FOLDER             where there is a network: downloads them (100 MB)
# bash launch/accelerator.sh run FOLDER [FLAG...]      on the machine: python -m experiments.bench.accelerator FLAG...
#
# The machine's jax stays, with its plugins and whatever else fits: a separate environment sees all of the machine's
# packages, and only what is missing is installed into it. A repeated call installs nothing.
#
# SPARSE_JAX_PYTHON   run: the Python that has jax (default: python3); wheels: the one whose pip downloads
# SPARSE_JAX_VENV     run: where the environment is (default: build/accelerator beside setup.cfg)
# SPARSE_JAX_HAS      wheels: a file with what "python3 -m pip freeze" prints on the machine; these are left out
# SPARSE_JAX_TARGET   wheels: the machine's version of Python, on Linux and x86-64 (default: 3.12)
set -euo pipefail
verb="${1:-}" folder="${2:-}"
python="${SPARSE_JAX_PYTHON:-python3}"
target="${SPARSE_JAX_TARGET:-3.12}"

refuse() {
  echo "error: $1" >&2
  exit 2
}

case "$verb" in
  wheels) mkdir -p "$folder" 2>/dev/null || refuse "FOLDER: '$folder' cannot be made; valid: where the wheels go" ;;
  run) compgen -G "$folder/*.whl" >/dev/null || refuse "FOLDER: '$folder' has no wheels; valid: what 'wheels' has filled" ;;
  *) refuse "'$verb'; valid: wheels FOLDER, run FOLDER [FLAG...]" ;;
esac
[ -z "${SPARSE_JAX_HAS:-}" ] || [ -f "$SPARSE_JAX_HAS" ] ||
  refuse "SPARSE_JAX_HAS: '$SPARSE_JAX_HAS' is not a file; valid: what pip freeze prints on the machine"
[[ "$target" =~ ^3\.1[1-3]$ ]] || refuse "SPARSE_JAX_TARGET: '$target'; valid: 3.11, 3.12, 3.13"
shift 2
folder="$(cd "$folder" && pwd)"
[ -z "${SPARSE_JAX_HAS:-}" ] || SPARSE_JAX_HAS="$(cd "$(dirname "$SPARSE_JAX_HAS")" && pwd)/$(basename "$SPARSE_JAX_HAS")"
cd "$(dirname "$0")/.."
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# What setup.cfg asks for, one a line.
"$python" -c 'if True:
    import configparser
    found = configparser.ConfigParser()
    found.read("setup.cfg")
    for part, name in (("options", "install_requires"), ("options.extras_require", "accelerator")):
        lines = found[part][name].splitlines()
        print(*(line for line in lines if line.strip() and not line.lstrip().startswith("#")), sep="\n")
' >"$work/wanted" || refuse "SPARSE_JAX_PYTHON: $python cannot be run; valid: a path such as python3.12"

# Moves to the folder what the machine may lack: not jax and what came with it, nor what SPARSE_JAX_HAS lists.
there() {
  local wheel name has=" jax jaxlib numpy scipy ml_dtypes opt_einsum "
  if [ -n "${SPARSE_JAX_HAS:-}" ]; then
    has="$has$(sed 's/[ =@].*//' "$SPARSE_JAX_HAS" | tr 'A-Z.\n-' 'a-z_ _') "
  fi
  for wheel in "$work"/all/*.whl; do
    name="$(basename "${wheel%%-*}" | tr 'A-Z.' 'a-z_')"
    [[ "$has" == *" $name "* ]] || mv "$wheel" "$folder"
  done
}

wheels() {
  local tag tags
  tags=(--implementation cp)
  for tag in 2_35 2_34 2_31 2_28 2_27 2_24 2_17 2_12 2_5; do
    tags+=(--platform "manylinux_${tag}_x86_64")
  done
  for tag in 2014 2010 1; do
    tags+=(--platform "manylinux${tag}_x86_64")
  done
  # it is published as source only; its wheel is the same on every machine
  "$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$work" promise
  "$python" -m pip download --quiet --disable-pip-version-check --only-binary=:all: --python-version "$target" \
    "${tags[@]}" --find-links "$work" --dest "$work/all" -r "$work/wanted"
  there
  du -sh "$folder"
}

# Prints the versions that the machine has of jax and jaxlib, as constraints.
kept() {
  "$python" -c 'if True:
    import importlib.metadata, sys
    for name in ("jax", "jaxlib"):
        print(f"{name}=={importlib.metadata.version(name)}")
    sys.exit(importlib.metadata.version("jax").split(".")[:2] not in (["0", "10"], ["0", "11"]))
  ' 2>/dev/null
}

set_up() {
  echo "installing what $python lacks into $venv" >&2
  rm -rf "$venv"
  # its pip is the machine's too, and the machine may have no ensurepip
  "$python" -m venv --without-pip "$venv"
  # after its own packages: all that $python finds, which may itself be of an environment
  "$python" -c 'import site, sys; print(*(path for path in sys.path[1:] if "-packages" in path), sep="\n")' \
    >"$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/machine.pth"
  PIP_USER=0 PIP_TARGET="" PIP_PREFIX="" PIP_ROOT="" "$venv/bin/python" -m pip install --quiet \
    --disable-pip-version-check --no-index --find-links "$folder" -c "$work/kept" -r "$work/wanted" || exit 1
  cp "$work/stamp" "$venv/installed"
}

if [ "$verb" = wheels ]; then
  wheels
  exit
fi
kept >"$work/kept" || refuse "SPARSE_JAX_PYTHON: $python has no jax 0.10 or 0.11; valid: the Python that has the accelerator's"
venv="${SPARSE_JAX_VENV:-build/accelerator}"
{
  command -v "$python"
  cat "$work/kept" "$work/wanted"
  ls "$folder"
} >"$work/stamp"
if [ -e "$venv" ] && [ ! -e "$venv/installed" ] && [ -n "${SPARSE_JAX_VENV:-}" ]; then
  refuse "SPARSE_JAX_VENV: $venv is not of this script; valid: a folder that does not exist yet"
fi
cmp -s "$work/stamp" "$venv/installed" || set_up
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
rm -rf "$work"
exec "$venv/bin/python" -m experiments.bench.accelerator "$@"
