#!/usr/bin/env bash
# The main path: data, tokenizer, one weight-sparse and one dense model, circuits of both, a report.
# About 8 minutes on 2 CPU cores, with the installation. Safe to repeat: what is there is kept.
#
# bash launch/quickstart.sh [--config.KEY=VALUE ...]
#
# The variables of launch/environment.sh choose Python and environment.
set -euo pipefail
if [[ "$*" == *gs://* ]]; then export SPARSE_JAX_EXTRAS="gcs"; fi
source "$(dirname "$0")/environment.sh"
exec python -m experiments.quickstart --config=experiments/configs/quickstart.py "$@"
