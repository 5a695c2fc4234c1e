# Sourced by the scripts that start `python -m MODULE FLAG...` somewhere, whose arguments are
# [--dry-run] MODULE [FLAG...]: reads the first two, and gives what follows.
#
# dry_run              true with --dry-run: nothing is done, what would be run is printed
# module, root         MODULE, and the folder of setup.cfg
# run COMMAND...       runs it; with --dry-run prints it, as it could be pasted into a shell
# feed TEXT COMMAND... the same, with TEXT as its standard input
# start COMMAND...     runs it beside this script
# finish               waits for all that were started; if one fails, the others are told to stop. Gives the status
#                      of the first that failed, or else 75 if one was told to stop, and saved
# again COMMAND...     runs it, and again while it ends with status 75, RESTARTS times at most. A script that is
#                      itself told to stop (SIGTERM, Ctrl-C) tells what was started, and starts nothing again
# refuse MESSAGE       ends with status 2
# need NAME VALID      refuses unless the variable is set
# whole NAME LEAST     refuses unless the variable is a whole number, LEAST or more
# one_of NAME VALUE... refuses unless the variable is one of these
# small NAME           refuses unless the variable is a name for a cloud
# kept FLAG...         refuses --workdir and --output that are neither in a bucket, gs://..., nor in the folder MOUNT, if
#                      there is one

# shellcheck shell=bash

# As in all scripts here, nothing that bash 3.2 (macOS) lacks; there an array without elements is one that is not set:
# hence ${name[@]+"${name[@]}"}.

# The lines behind this one may be a sweep's, piped to a shell: nothing that is started here may read them.
exec </dev/null

readonly saved=75
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

run() {
  if "$dry_run"; then
    local line
    line="$(printf '%q ' "$@")"
    printf '%s\n' "${line% }"
  else
    "$@"
  fi
}

feed() {
  local text="$1"
  shift
  if "$dry_run"; then
    printf '%q ' "$@"
    printf "<<'END'\n%s\nEND\n" "$text"
  else
    "$@" <<<"$text"
  fi
}

children=() stopping=false

# In a process group of its own, so that a Ctrl-C reaches it once: from here, as SIGTERM, which every run knows.
start() {
  if "$stopping"; then return; fi
  set -m
  "$@" &
  set +m
  children+=("$!")
}

stop() {
  kill -TERM ${children[@]+"${children[@]}"} 2>/dev/null || true
}

finish() {
  local status=0 ended pid left
  [ "${#children[@]}" != 0 ] || return "$saved"  # told to stop before anything was started
  while [ "${#children[@]}" != 0 ]; do
    left=()
    for pid in ${children[@]+"${children[@]}"}; do
      if kill -0 "$pid" 2>/dev/null; then
        left+=("$pid")
        continue
      fi
      ended=0
      wait "$pid" || ended=$?
      if [ "$ended" = 0 ] || [ "$ended" = "$saved" ]; then
        [ "$status" != 0 ] || status=$ended
      elif [ "$status" = 0 ] || [ "$status" = "$saved" ]; then
        status=$ended
        stop
      fi
    done
    children=(${left[@]+"${left[@]}"})
    sleep 0.2
  done
  return "$status"
}

again() {
  local status attempt
  trap 'stopping=true; stop' TERM INT
  for ((attempt = 0; attempt <= RESTARTS; attempt++)); do
    status=0
    "$@" || status=$?
    if [ "$status" != "$saved" ] || "$stopping"; then return "$status"; fi
    echo "it was told to stop and has saved (status $saved)" >&2
  done
  return "$status"
}

refuse() {
  echo "error: $1" >&2
  exit 2
}

need() {
  [ -n "${!1:-}" ] || refuse "$1: missing; valid: $2"
}

whole() {
  [[ "${!1}" =~ ^[0-9]{1,9}$ ]] || refuse "$1: '${!1}'; valid: a whole number, $2 or more"
  [ "${!1}" -ge "$2" ] || refuse "$1: '${!1}'; valid: a whole number, $2 or more"
}

one_of() {
  local variable="$1" value
  shift
  for value in "$@"; do
    [ "${!variable}" != "$value" ] || return 0
  done
  refuse "$variable: '${!variable}'; valid: $*"
}

small() {
  [[ "${!1}" =~ ^[a-z]([a-z0-9-]*[a-z0-9])?$ ]] || refuse "$1: '${!1}'; valid: small letters, digits and -"
}

kept() {
  local flag word path="" valid="gs://BUCKET/..."
  if [ -n "$MOUNT" ]; then
    [[ "$MOUNT" =~ ^(/[A-Za-z0-9._-]+)+$ ]] || refuse "MOUNT: '$MOUNT'; valid: a folder such as /mnt/runs"
    valid="$valid, or a folder in MOUNT, $MOUNT/..."
  fi
  for word in "$@" ""; do
    if [ "$path" = next ]; then
      path="$word"
    elif [[ "$word" =~ ^--?(workdir|output)(=(.*))?$ ]]; then
      flag="--${BASH_REMATCH[1]}" path="${BASH_REMATCH[3]}"
      [ -n "${BASH_REMATCH[2]}" ] || path=next
    fi
    if [ -n "$path" ] && [ "$path" != next ]; then
      if [[ "$path" != gs://* ]]; then
        [[ -n "$MOUNT" && "$path" == "$MOUNT"/* && "$path/" != */../* ]] ||
          refuse "$flag: '$path' would be lost with the machine; valid: $valid"
      fi
      path=""
    fi
  done
}

dry_run=false
if [ "${1:-}" = "--dry-run" ]; then
  dry_run=true
  shift
fi
module="${1:-}"
[[ "$module" =~ ^experiments(\.[a-z_]+)+$ ]] || refuse "MODULE: '$module'; valid: such as experiments.train"
[ -f "$root/${module//.//}.py" ] || refuse "MODULE: '$module' is not there; valid: such as experiments.train"
shift
# what a bucket needs, for environment.sh
if [[ "$*" == *gs://* ]]; then
  export SPARSE_JAX_EXTRAS="${SPARSE_JAX_EXTRAS:+$SPARSE_JAX_EXTRAS,}gcs"
fi
