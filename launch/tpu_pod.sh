#!/usr/bin/env bash
# A slice of a TPU pod, from the first request to the end of the run: asks for the slice as a queued resource,
# waits for it, installs this checkout on every worker and starts the command on all of them. A slice that is
# taken away, or fails, is asked for again, and the run goes on from its last checkpoint. The slice is given
# back when the command has ended.
#
# PROJECT=p ZONE=us-west4-a NAME=run1 ACCELERATOR=v5litepod-64 VERSION=v2-alpha-tpuv5-lite REPOSITORY=https://... \
#   bash launch/tpu_pod.sh [--dry-run] experiments.train --config=... --workdir=/mnt/... (which all workers see)
#
# PROJECT      the Google Cloud project
# ZONE         where the slice is, such as us-west4-a
# NAME         of the slice and of its request
# ACCELERATOR  its type, such as v5litepod-64 (here called v5e-64), v5p-128, v6e-256
# VERSION      the software of its workers: v2-alpha-tpuv5-lite, v2-alpha-tpuv5 or v2-alpha-tpuv6e
# REPOSITORY   what the workers clone; REVISION: the branch, tag or commit (default: main)
# SPOT         true: cheaper, and may be taken away (default: false)
# POLL         seconds between looks at the request (default: 60)
# RESTARTS     how often a slice is asked for again, or the command started again (default: 100)
# Credentials are those of gcloud. JAX finds the other workers by itself.
set -euo pipefail
source "$(dirname "$0")/command.sh"
for variable in PROJECT ZONE NAME ACCELERATOR VERSION REPOSITORY; do
  need "$variable" "see the top of launch/tpu_pod.sh"
done
REVISION="${REVISION:-main}" SPOT="${SPOT:-false}" POLL="${POLL:-60}" RESTARTS="${RESTARTS:-100}"
[[ "$ACCELERATOR" =~ ^(v5litepod|v5p|v6e)-[0-9]+$ ]] ||
  refuse "ACCELERATOR: '$ACCELERATOR'; valid: v5litepod-N, v5p-N or v6e-N"
one_of SPOT true false
whole POLL 0
whole RESTARTS 0

where=(--project="$PROJECT" --zone="$ZONE")
spot=()
[ "$SPOT" = false ] || spot=(--spot)
quoted="$(printf '%q ' python -m "$module" "$@")"
script="set -e
test -d sparse_jax || git clone --quiet $(printf '%q' "$REPOSITORY") sparse_jax
cd sparse_jax && git fetch --quiet origin && git checkout --quiet --detach $(printf '%q' "$REVISION")
export TPU_NAME=$(printf '%q' "$NAME") && source launch/environment.sh
exec ${quoted% }"

state() {
  gcloud compute tpus queued-resources describe "$NAME" "${where[@]}" --format='value(state.state)' 2>/dev/null
}

request() {
  run gcloud compute tpus queued-resources create "$NAME" --node-id="$NAME" "${where[@]}" \
    --accelerator-type="$ACCELERATOR" --runtime-version="$VERSION" "${spot[@]}"
}

give_back() {
  run gcloud compute tpus queued-resources delete "$NAME" "${where[@]}" --force --quiet
}

# Until the slice is there; one that is lost or was refused is asked for again.
have_slice() {
  local found
  while true; do
    found="$(state || true)"
    case "$found" in
      ACTIVE) return ;;
      "") request ;;
      SUSPENDED | SUSPENDING | FAILED) echo "the slice is $found: asking again" >&2; give_back ;;
      *) sleep "$POLL" ;;
    esac
  done
}

on_all_workers() {
  run gcloud compute tpus tpu-vm ssh "$NAME" "${where[@]}" --worker=all --command="$script"
}

if "$dry_run"; then
  request
  on_all_workers
  give_back
  exit
fi
for ((attempt = 0; attempt <= RESTARTS; attempt++)); do
  have_slice
  status=0
  on_all_workers || status=$?
  # done, a wrong input, a loss that is not finite: the same on any slice
  if [ "$status" = 0 ] || [ "$status" = 2 ] || [ "$status" = 3 ]; then break; fi
  # whatever else ends while the slice stays has failed by itself; its loss is seen only after a while
  if [ "$status" != "$saved" ] && sleep "$POLL" && [ "$(state)" = ACTIVE ]; then break; fi
  echo "ended with status $status: going on from the last checkpoint" >&2
done
give_back
exit "$status"
