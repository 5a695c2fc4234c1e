#!/usr/bin/env bash
# Makes static pages: the notebooks of experiments/colabs/, executed from top to bottom, and the public functions.
# Warnings count as errors.
#
# bash launch/docs.sh [FOLDER]        pages in FOLDER (default: runs/docs), some twenty minutes on one CPU core
#
# The variables of launch/environment.sh choose Python and environment.
set -euo pipefail
output="${1:-runs/docs}"
output="$(mkdir -p "$output" && cd "$output" && pwd)"
export SPARSE_JAX_EXTRAS="docs"
source "$(dirname "$0")/environment.sh"
# whatever is installed for accelerators: the plan's notebook adds the compilers for TPUs
export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"
# in the checkout, which the notebooks look for from where they are
mkdir -p build
source="$(mktemp -d "$PWD/build/pages-XXXXXX")"
trap 'rm -rf "$source"' EXIT
cp experiments/pages/conf.py experiments/pages/index.md experiments/colabs/*.ipynb "$source"
python -m sphinx -W --keep-going -q -b html "$source" "$output"
echo "$output/index.html"
