#!/usr/bin/env bash
# Several processes on this machine that work as one, to try out what several machines would do. If one fails, the
# others are told to stop. When the run gets SIGTERM, it saves and is started again. When this script gets SIGTERM or
# Ctrl-C, it passes SIGTERM on, waits until all processes have saved, and ends.
#
# PROCESSES=4 bash launch/processes.sh [--dry-run] experiments.train --config=... --workdir=...
#
# PROCESSES   how many (default: 2)
# PORT        where they find each other (default: 12321)
# LOGS        the folder of what they print, process_0.log and so on (default: runs/logs)
# RESTARTS    how often the run is started again (default: 100)
# The variables of launch/environment.sh choose Python and environment.
set -euo pipefail
source "$(dirname "$0")/command.sh"
PROCESSES="${PROCESSES:-2}" PORT="${PORT:-12321}" LOGS="${LOGS:-runs/logs}" RESTARTS="${RESTARTS:-100}"
whole PROCESSES 1
whole PORT 1024
whole RESTARTS 0
"$dry_run" || source "$root/launch/environment.sh"

together() {
  local index status=0 command
  for ((index = 0; index < PROCESSES; index++)); do
    command=(python -m "$module" "$@" --coordinator="localhost:$PORT"
      --processes="$PROCESSES" --process="$index")
    if "$dry_run"; then
      run "${command[@]}"
    else
      mkdir -p "$LOGS"
      start "${command[@]}" >>"$LOGS/process_$index.log" 2>&1
    fi
  done
  "$dry_run" || finish || status=$?
  if [ "$status" != 0 ] && [ "$status" != "$saved" ]; then
    echo "error: a process ended with status $status; see $LOGS" >&2
  fi
  return "$status"
}

again together "$@"
