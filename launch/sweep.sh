#!/usr/bin/env bash
# Prints a command line for every combination of values, for a shell, xargs, or another of these scripts.
#
# bash launch/sweep.sh PREFIX... -- experiments.train --config=... [--FLAG=VALUE...] -- --FLAG=VALUE,VALUE... [...]
#
# PREFIX       what starts the command, such as: bash launch/slurm.sh (or nothing: python -m)
# The flags behind the last -- are varied; each line gets a folder of its own, --workdir=SWEEP/0 and so on.
#
# SWEEP        the folder of the runs (default: runs/sweep)
#
# bash launch/sweep.sh bash launch/local.sh -- experiments.train --config=experiments/configs/pretrain.py:size=tiny \
#   -- --config.training.seed=0,1,2 --config.sparsity.fraction=0.1,0.05 | bash
set -euo pipefail
SWEEP="${SWEEP:-runs/sweep}"

refuse() {
  echo "error: $1" >&2
  exit 2
}

prefix=() fixed=() varied=() part=0
for word in "$@"; do
  if [ "$word" = "--" ]; then
    part=$((part + 1))
  elif [ "$part" = 0 ]; then
    prefix+=("$word")
  elif [ "$part" = 1 ]; then
    fixed+=("$word")
  else
    [[ "$word" =~ ^--[A-Za-z_][A-Za-z0-9_.]*=.+ ]] || refuse "'$word' cannot be varied; valid: --FLAG=VALUE,VALUE..."
    varied+=("$word")
  fi
done
[ "$part" = 2 ] || refuse "two -- are wanted, $part given; see the top of launch/sweep.sh"
[ "${#fixed[@]}" != 0 ] || refuse "MODULE: missing; valid: such as experiments.train"
[ "${#varied[@]}" != 0 ] || refuse "nothing is varied; valid: --FLAG=VALUE,VALUE... behind the last --"
[ "${#prefix[@]}" != 0 ] || prefix=(python -m)

count=0
# Prints the lines of all combinations of the flags from number $1 on, behind the chosen $2...
combinations() {
  local place="$1" values value flag
  shift
  if [ "$place" = "${#varied[@]}" ]; then
    printf '%q ' ${prefix[@]+"${prefix[@]}"} ${fixed[@]+"${fixed[@]}"} "$@"
    printf '%q\n' "--workdir=$SWEEP/$count"
    count=$((count + 1))
    return
  fi
  flag="${varied[$place]%%=*}"
  IFS=, read -ra values <<<"${varied[$place]#*=}"
  for value in "${values[@]}"; do
    combinations $((place + 1)) "$@" "$flag=$value"
  done
}
combinations 0
