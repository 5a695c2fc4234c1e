# Sourced by the scripts that start `python -m MODULE FLAG...` somewhere, whose arguments are
# [--dry-run] MODULE [FLAG...]: reads the first two, and gives what follows.
#
# dry_run              true with --dry-run: nothing is done, what would be run is printed
# module, root         MODULE, and the folder of setup.cfg
# run COMMAND...       runs it; with --dry-run prints it, as it could be pasted into a shell
# feed TEXT COMMAND... the same, with TEXT as its standard input
# again COMMAND...     runs it, and again while it ends with status 75 (it was told to stop, and saved),
#                      RESTARTS times at most
# refuse MESSAGE       ends with status 2
# need NAME VALID      refuses unless the variable is set
# whole NAME LEAST     refuses unless the variable is a whole number, LEAST or more
# one_of NAME VALUE... refuses unless the variable is one of these

# shellcheck shell=bash

readonly saved=75
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

run() {
  if "$dry_run"; then
    printf '%q ' "$@" | sed 's/ $/\n/'
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

again() {
  local status attempt
  for ((attempt = 0; attempt <= RESTARTS; attempt++)); do
    status=0
    "$@" || status=$?
    [ "$status" = "$saved" ] || return "$status"
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

dry_run=false
if [ "${1:-}" = "--dry-run" ]; then
  dry_run=true
  shift
fi
module="${1:-}"
[[ "$module" =~ ^experiments(\.[a-z_]+)+$ ]] || refuse "MODULE: '$module'; valid: such as experiments.train"
[ -f "$root/${module//.//}.py" ] || refuse "MODULE: '$module' is not there; valid: such as experiments.train"
shift
