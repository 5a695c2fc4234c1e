#!/usr/bin/env bash
# A slice of a TPU pod, from the first request to the end of the run: requests the slice as a queued resource, waits for
# it, installs this checkout on every worker and starts the command on all of them. A slice that is preempted or fails is
# requested again, and the run continues from its last checkpoint. The slice is deleted when the command has ended. If
# this script itself is stopped, the slice stays, and the same command uses it again.
#
# PROJECT=p ZONE=us-west4-a NAME=run1 ACCELERATOR=v5litepod-64 VERSION=v2-alpha-tpuv5-lite REPOSITORY=https://... \
#   bash launch/tpu_pod.sh [--dry-run] experiments.train --config=... --workdir=gs://BUCKET/run1 \
#   --config.data.directory=gs://BUCKET/data
#
# PROJECT      the Google Cloud project
# ZONE         where the slice is, such as us-west4-a
# NAME         of the slice and of its request: small letters, digits and -
# ACCELERATOR  its type, such as v5litepod-64 (here called v5e-64), v5p-128, v6e-256
# VERSION      the software of its workers: v2-alpha-tpuv5-lite, v2-alpha-tpuv5 or v2-alpha-tpuv6e
# REPOSITORY   what the workers clone; REVISION: the branch, tag or commit (default: main)
# SHARE        ADDRESS:/FOLDER of a disk (NFS, such as Filestore) that all workers may write, if there is one
# MOUNT        where they see it
# PYTHON       python3.11, python3.12 (default) or python3.13; installed where the workers' image lacks it
# SPOT         true: cheaper, and may be preempted (default: false)
# POLL         seconds between checks of the request (default: 60)
# RESTARTS     how often a slice is requested again, and how often the command is started again (default: 100)
# The disks of a slice are lost with it: --workdir and --output have to be in a bucket, gs://..., or in MOUNT, and
# data.directory should be. Credentials are those of gcloud; the bucket is used as the service account of the slice.
# The workers find each other through JAX.
set -euo pipefail
source "$(dirname "$0")/command.sh"
for variable in PROJECT ZONE NAME ACCELERATOR VERSION REPOSITORY; do
  need "$variable" "see the top of launch/tpu_pod.sh"
done
REVISION="${REVISION:-main}" SPOT="${SPOT:-false}" POLL="${POLL:-60}" RESTARTS="${RESTARTS:-100}"
PYTHON="${PYTHON:-python3.12}" SHARE="${SHARE:-}" MOUNT="${MOUNT:-}"
small NAME
[[ "$ACCELERATOR" =~ ^(v5litepod|v5p|v6e)-[0-9]+$ ]] ||
  refuse "ACCELERATOR: '$ACCELERATOR'; valid: v5litepod-N, v5p-N or v6e-N"
if [ -n "$SHARE$MOUNT" ]; then
  [[ "$SHARE" =~ ^[A-Za-z0-9.-]+:/[A-Za-z0-9._/-]*$ ]] || refuse "SHARE: '$SHARE'; valid: such as 10.0.0.2:/runs"
  need MOUNT "a folder such as /mnt/runs, where the workers see SHARE"
fi
kept "$@"
one_of PYTHON python3.11 python3.12 python3.13
one_of SPOT true false
whole POLL 0
whole RESTARTS 0

where=(--project="$PROJECT" --zone="$ZONE")
spot=()
[ "$SPOT" = false ] || spot=(--spot)
# a host has 8 chips of v5e and v6e, and 8 cores of v5p, at most; commands for one process refuse several hosts
hosts=several
[ "${ACCELERATOR##*-}" -gt 8 ] || hosts=1
quoted="$(printf '%q ' python -m "$module" "$@")"

# What every worker runs. A command whose connection was lost may still be there: it is told to stop, and saves.
mount=""
[ -z "$SHARE" ] || mount="
if ! mountpoint -q $MOUNT; then
  command -v mount.nfs >/dev/null || { \$get update && \$get install nfs-common; } >/dev/null
  sudo mkdir -p $MOUNT && sudo mount -t nfs $SHARE $MOUNT
fi"
script="set -e
get='sudo apt-get -qq -o DPkg::Lock::Timeout=300'$mount
if ! command -v $PYTHON >/dev/null; then
  { sudo add-apt-repository -y ppa:deadsnakes/ppa && \$get update && \$get install $PYTHON-venv; } >/dev/null
fi
test -d sparse_jax || git clone --quiet $(printf '%q' "$REPOSITORY") sparse_jax
cd sparse_jax
git fetch --quiet --prune --tags --force origin
# a branch is taken as it is there now, not as the clone has its own
revision=\$(git rev-parse --quiet --verify $(printf '%q' "origin/$REVISION") || echo $(printf '%q' "$REVISION"))
git checkout --quiet --detach \"\$revision\"
export TPU_NAME=$NAME SPARSE_JAX_PYTHON=$PYTHON SPARSE_JAX_HOSTS=$hosts SPARSE_JAX_EXTRAS=${SPARSE_JAX_EXTRAS:-}
source launch/environment.sh
before=\$(cat /dev/shm/$NAME.pid 2>/dev/null || true)
if grep -qs $module /proc/\${before:-none}/cmdline; then
  echo 'waiting at most 300 s for the command of a lost connection to save' >&2
  kill -TERM \$before
  timeout 300 tail --pid=\$before -f /dev/null || kill -KILL \$before
fi
echo \$\$ >/dev/shm/$NAME.pid
exec ${quoted% }"

fail() {
  echo "error: $1; a slice that is there costs until it is deleted" >&2
  exit 1
}

# Sets `state` to that of the request, NONE if there is no request; a gcloud that cannot tell is asked again.
look() {
  local attempt
  for ((attempt = 0; attempt < 5; attempt++)); do
    [ "$attempt" = 0 ] || sleep "$POLL"
    if state="$(gcloud compute tpus queued-resources describe "$NAME" "${where[@]}" \
      --format='value(state.state)' 2>"$said")"; then
      return
    fi
    if grep -q NOT_FOUND "$said"; then
      state=NONE
      return
    fi
  done
  fail "gcloud cannot tell the state of $NAME: $(cat "$said")"
}

request() {
  run gcloud compute tpus queued-resources create "$NAME" --node-id="$NAME" "${where[@]}" \
    --accelerator-type="$ACCELERATOR" --runtime-version="$VERSION" ${spot[@]+"${spot[@]}"} || fail "gcloud refuses the request"
}

give_back() {
  run gcloud compute tpus queued-resources delete "$NAME" "${where[@]}" --force --quiet ||
    fail "gcloud cannot give $NAME back"
}

# Until the slice is there; one that is lost or was refused is asked for again.
requests=0
have_slice() {
  local before=""
  while true; do
    look
    case "$state" in
      ACTIVE) return ;;
      NONE)
        [ "$requests" -le "$RESTARTS" ] || fail "the slice was asked for $requests times"
        requests=$((requests + 1))
        request
        ;;
      SUSPENDED | FAILED) echo "the slice is $state: giving it back" >&2; give_back ;;
      *)
        [ "$state" = "$before" ] || echo "waiting for the slice: its request is $state" >&2
        before="$state"
        sleep "$POLL"
        ;;
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
said="$(mktemp)"
trap 'rm -f "$said"' EXIT
# gcloud handles Ctrl-C itself: bash would take that for the end of the command, and give the slice back
trap 'exit 130' INT
for ((attempt = 0; attempt <= RESTARTS; attempt++)); do
  have_slice
  status=0
  on_all_workers || status=$?
  case "$status" in
    # done, a wrong input, a loss that is not finite: the same on any slice
    0 | 2 | 3) break ;;
    "$saved") ;;
    # another process is lost; killed; the connection is lost, which is not the end of the run
    4 | 137 | 255) sleep "$POLL" ;;
    # whatever else ends while the slice stays has failed by itself; its loss is seen only after a while
    *)
      sleep "$POLL"
      look
      [ "$state" != ACTIVE ] || break
      ;;
  esac
  echo "ended with status $status: going on from the last checkpoint" >&2
done
give_back
exit "$status"
