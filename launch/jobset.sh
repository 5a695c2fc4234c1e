#!/usr/bin/env bash
# A slice of TPUs in Google Kubernetes Engine as a JobSet (launch/jobset.yaml). If a worker is lost, or saves because it
# was told to stop, all workers start again and the run continues; a wrong input or a loss that is not finite ends it.
# The workers find each other through JAX.
#
# NAME=run1 IMAGE=... ACCELERATOR=tpu-v5-lite-podslice TOPOLOGY=8x8 HOSTS=16 \
#   bash launch/jobset.sh [--dry-run] experiments.train --config=... --workdir=gs://BUCKET/run1 \
#   --config.data.directory=gs://BUCKET/data
#
# NAME          of the JobSet: small letters, digits and -
# IMAGE         a container image with this checkout and its extras tpu and gcs installed
# ACCELERATOR   tpu-v5-lite-podslice (v5e), tpu-v5p-slice or tpu-v6e-slice
# TOPOLOGY      the slice's shape, such as 8x8 or 4x4x4
# HOSTS         machines of the slice, each of CHIPS chips
# CLAIM         a PersistentVolumeClaim that all workers may write at once (ReadWriteMany), if there is one
# MOUNT         where they see it
# CHIPS         chips of a machine (default: 4)
# RESTARTS      how often the workers start again (default: 100)
# A JobSet that has ended stays, and keeps its name: `kubectl delete jobset NAME` comes before the next start.
# The disks of a pod are lost with it: --workdir and --output have to be in a bucket, gs://..., or in MOUNT, and
# data.directory should be. The bucket is used as the default service account of the namespace. Credentials and
# cluster are those of kubectl.
set -euo pipefail
source "$(dirname "$0")/command.sh"
for variable in NAME IMAGE ACCELERATOR TOPOLOGY HOSTS; do
  need "$variable" "see the top of launch/jobset.sh"
done
CHIPS="${CHIPS:-4}" RESTARTS="${RESTARTS:-100}" CLAIM="${CLAIM:-}" MOUNT="${MOUNT:-}"
small NAME
if [ -n "$CLAIM$MOUNT" ]; then
  small CLAIM
  need MOUNT "a folder such as /mnt/runs, where the workers see CLAIM"
fi
one_of ACCELERATOR tpu-v5-lite-podslice tpu-v5p-slice tpu-v6e-slice
[[ "$TOPOLOGY" =~ ^[0-9]+x[0-9]+(x[0-9]+)?$ ]] || refuse "TOPOLOGY: '$TOPOLOGY'; valid: such as 8x8 or 4x4x4"
kept "$@"
whole HOSTS 1
whole CHIPS 1
whole RESTARTS 0
((${TOPOLOGY//x/*} == HOSTS * CHIPS)) ||
  refuse "HOSTS: $HOSTS machines of $CHIPS chips are not $TOPOLOGY; valid: $((${TOPOLOGY//x/*} / CHIPS))"

# The command as a list of JSON strings, which YAML takes as it is.
COMMAND="["
for word in python -m "$module" "$@"; do
  word="${word//\\/\\\\}"
  COMMAND+="\"${word//\"/\\\"}\", "
done
COMMAND="${COMMAND%, }]"

manifest="$(cat "$root/launch/jobset.yaml")"
# the lines of the claim are the last
[ -n "$CLAIM" ] || manifest="${manifest%% # with CLAIM*}"
for variable in NAME IMAGE ACCELERATOR TOPOLOGY HOSTS CLAIM MOUNT CHIPS RESTARTS COMMAND; do
  place="\${$variable}"
  # no quotes around the whole: bash before 4.3 would keep those within
  manifest=${manifest//"$place"/"${!variable}"}
done
feed "$manifest" kubectl create -f -
