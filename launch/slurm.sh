#!/usr/bin/env bash
# A SLURM job on machines with GPUs, with one process per GPU, which find each other through JAX. Five minutes before the
# time limit, or if the job is preempted, the processes get SIGTERM and save; the job is then queued again and continues.
#
# NODES=2 GPUS=8 HOURS=24 PARTITION=gpu bash launch/slurm.sh [--dry-run] experiments.train --config=... --workdir=...
#
# NODES       how many machines (default: 1)
# GPUS        GPUs of each (default: 8)
# CPUS        CPU cores for each process (default: 8)
# HOURS       time limit of the job, each time that it is queued (default: 24)
# PARTITION   where the job is queued (default: the cluster's own)
# ACCOUNT     who pays (default: your own)
# NAME        of the job (default: sparse_jax); what it prints goes to NAME-JOB.log
# The variables of launch/environment.sh choose Python and environment, which all machines must see.
set -euo pipefail
source "$(dirname "$0")/command.sh"
NODES="${NODES:-1}" GPUS="${GPUS:-8}" CPUS="${CPUS:-8}" HOURS="${HOURS:-24}" NAME="${NAME:-sparse_jax}"
whole NODES 1
whole GPUS 1
whole CPUS 1
whole HOURS 1
options=(--job-name="$NAME" --output="$NAME-%j.log" --open-mode=append --requeue
  --nodes="$NODES" --ntasks-per-node="$GPUS" --gpus-per-node="$GPUS" --cpus-per-task="$CPUS"
  --time="$HOURS:00:00" --signal=TERM@300)
[ -z "${PARTITION:-}" ] || options+=(--partition="$PARTITION")
[ -z "${ACCOUNT:-}" ] || options+=(--account="$ACCOUNT")

# What the first machine runs. The environment is made once there, before every process takes it.
script="#!/usr/bin/env bash
cd $(printf '%q' "$root") && source launch/environment.sh || exit 2
status=0
# when one has ended, the others have this long to save; since Slurm 22.05 a step does not know of the job's cores
srun --cpus-per-task=$CPUS --kill-on-bad-exit=0 --wait=300 $(printf '%q ' python -m "$module" "$@")|| status=\$?
# 75: told to stop, and saved
if [ \"\$status\" = $saved ]; then scontrol requeue \"\$SLURM_JOB_ID\"; fi
exit \"\$status\""

feed "$script" sbatch "${options[@]}"
