#!/usr/bin/env bash
# One process on this machine, with all of its devices. When the run gets SIGTERM, it saves and is started again. When
# this script gets SIGTERM or Ctrl-C, it passes SIGTERM on, waits until the run has saved, and ends.
#
# bash launch/local.sh [--dry-run] experiments.train --config=... --workdir=...
#
# RESTARTS   how often the run is started again (default: 100)
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
