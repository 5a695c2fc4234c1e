#!/usr/bin/env bash
# One process on this machine, with all of its devices. When it was told to stop and has saved, it goes on;
# when this script is told to stop, it is too, and ends.
#
# bash launch/local.sh [--dry-run] experiments.train --config=... --workdir=...
#
# RESTARTS   how often it goes on (default: 100)
# The variables of launch/environment.sh choose Python and environment.
set -euo pipefail
source "$(dirname "$0")/command.sh"
RESTARTS="${RESTARTS:-100}"
whole RESTARTS 0
if "$dry_run"; then
  run python -m "$module" "$@"
  exit
fi
source "$root/launch/environment.sh"

alone() {
  start python -m "$module" "$@"
  finish
}

again alone "$@"
