#!/usr/bin/env bash
# One process on this machine, with all of its devices. When it was told to stop and has saved, it goes on.
#
# bash launch/local.sh [--dry-run] experiments.train --config=... --workdir=...
#
# RESTARTS   how often it goes on (default: 100)
# The variables of launch/environment.sh choose Python and environment.
set -euo pipefail
source "$(dirname "$0")/command.sh"
RESTARTS="${RESTARTS:-100}"
whole RESTARTS 0
"$dry_run" || source "$root/launch/environment.sh"
again run python -m "$module" "$@"
