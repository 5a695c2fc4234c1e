"""The launch scripts parse, and the environment is refused, made and found as they say."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
SCRIPTS = [*sorted(LAUNCH.glob("*.sh")), ROOT / ".ci" / "run"]

# Stands for a Python whose environments have a pip that does what PIP says, and notes what it was told.
PYTHON = f"""#!/bin/bash
case "$2" in
  venv)
    folder="${{!#}}"
    [ "$3" != --clear ] || rm -rf "$folder"
    mkdir -p "$folder/bin" && cp "$0" "$folder/bin/python" ;;
  pip)
    [ "$3" != install ] || echo "$PIP_USER,$PIP_TARGET,$PIP_PREFIX,$PIP_ROOT: ${{!#}}" >> "$NOTES"
    [ "$3" != install ] || [ -z "$WHILE_INSTALLING" ] || eval "$WHILE_INSTALLING"
    exit "$PIP" ;;
  *) exec {sys.executable} "$@" ;;
esac
"""

# What bash 3.2 of macOS lacks, or does otherwise, and how it is known in a line.
LATER = {
    "mapfile": r"\b(mapfile|readarray)\b",
    "associative arrays, references": r"\b(declare|local|typeset) -[a-zA-Z]*[Ang]",
    "changes of case": r"\$\{!?\w+(\[[^]]*\])?(,|\^|@[A-Za-z])",
    "wait -n": r"\bwait -[a-z]*n",
    "both streams": r"\|&|&>>",
    "coproc": r"\bcoproc\b",
    "globstar": r"\b(globstar|lastpipe|inherit_errexit)\b",
    "fall through": r";;?&",
    "is it set": r"\[\[? -v ",
    "the last of an array": r"\[-\d+\]",
    "files of a free number": r"\{\w+\}[<>]",
    "later variables": r"\$\{?(BASHPID|EPOCH\w+|SRANDOM)",
    "printf of a time": r"%\([^)]*\)T",
    "fractions of read -t": r"\bread [^|;]*-t ?[0-9]*\.",
    "padded ranges": r"\{0\d+\.\.",
    # bash before 4.3 keeps the inner quotes
    "quotes within quotes": r'"\$\{\w+//?[^}]*/"\$',
    # of GNU, not of BSD
    "other programs": r"(?<!\.)\b(flock|nproc|readlink -f|xargs -d|date -d|stat -c|sed -i )|\bsed [^|]*\\n",
}


@pytest.fixture
def checkout(tmp_path):
    root = tmp_path / "checkout"
    shutil.copytree(LAUNCH, root / "launch")
    (root / "setup.cfg").write_text("")
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    return root


def command(before: str = "") -> list[str]:
    return ["bash", "-euo", "pipefail", "-c", f"{before}\nsource launch/environment.sh; command -v python"]


def environment(**variables: object) -> dict[str, str]:
    plain = {"SPARSE_JAX_ACCELERATOR": "cpu", "PIP": "0", "NOTES": "notes", "WHILE_INSTALLING": ""}
    looked_at = ("SPARSE_JAX_", "TPU_", "PIP")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(looked_at)}
    return inherited | plain | {name: str(value) for name, value in variables.items()}


def source(checkout: Path, before: str = "", **variables: object) -> subprocess.CompletedProcess:
    """Sources the script, after the line `before`."""
    return subprocess.run(
        command(before),
        cwd=checkout,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
    )


def contents(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_parses(script):
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def lacking(text: str) -> list[str]:
    """What a script needs that bash 3.2 lacks. There an array that is empty counts as not set (set -u)."""
    code = re.sub(r"(?m)^\s*#.*$", "", text)
    found = [name for name, pattern in LATER.items() if re.search(pattern, code)]
    for name in set(re.findall(r"\b(\w+)=\(\)", code)):
        guarded = f'${{{name}[@]+"${{{name}[@]}}"}}'
        found += [f"{name} where it is empty"] * (f"${{{name}[@]}}" in code.replace(guarded, ""))
    return found


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_needs_no_bash_that_macos_lacks(script):
    assert lacking(script.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "mapfile -t lines",
        "declare -A names",
        "local -n other=$1",
        'echo "${name,,}"',
        'echo "${name^}"',
        'echo "${names[@]@Q}"',
        "wait -n",
        "make |& cat",
        "make &>> log",
        '[[ -v "$name" ]]',
        'echo "${names[-1]}"',
        "exec {file}>log",
        'text="${text//"$a"/"$b"}"',
        'a=(); echo "${a[@]}"',
        "sed 's/ /\\n/'",
        "flock 9",
    ],
)
def test_what_macos_lacks_is_found(line):
    assert len(lacking(f"true\n{line}\n")) == 1


def test_an_empty_array_is_guarded_as_bash_3_needs_it():
    assert lacking('a=()\necho ${a[@]+"${a[@]}"} "${#a[@]}"') == []


def test_a_wrong_python_is_refused_before_anything_is_made(checkout):
    before = contents(checkout)
    done = source(checkout, SPARSE_JAX_PYTHON="/bin/false")
    assert done.returncode == 2
    assert done.stderr.startswith("error: SPARSE_JAX_PYTHON: /bin/false is not Python 3.11")
    assert done.stderr.count("\n") == 1
    assert contents(checkout) == before


def test_an_environment_without_pip_is_removed_again(checkout):
    before = contents(checkout)
    done = source(checkout, SPARSE_JAX_PYTHON=checkout.parent / "python", PIP=1)
    assert done.returncode == 2
    assert done.stderr.splitlines()[1:] == [
        "error: SPARSE_JAX_VENV: .venv has no pip; valid: a new folder and a Python with venv "
        "(Debian: apt install python3-venv)"
    ]
    assert contents(checkout) == before


def test_a_folder_of_the_user_is_never_removed(checkout):
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "mine").write_text("")
    done = source(checkout, SPARSE_JAX_PYTHON=checkout.parent / "python", PIP=1)
    assert done.returncode == 2
    assert (checkout / ".venv" / "mine").exists()


def gone(python: Path) -> None:
    python.unlink()
    python.symlink_to(python.parent / "upgraded")


def another(python: Path) -> None:
    """As where python3 is a later one by now, which has no packages here."""
    python.write_text("#!/bin/sh\nexit 1\n")


def moved(python: Path) -> Path:
    checkout = python.parents[2]
    return checkout.rename(checkout.with_name("moved"))


@pytest.mark.parametrize("happens", [gone, another, moved])
def test_an_environment_whose_python_is_gone_is_rebuilt(checkout, happens):
    variables = {"SPARSE_JAX_PYTHON": checkout.parent / "python"}
    assert source(checkout, **variables).returncode == 0
    (checkout / ".venv" / "stale").write_text("")
    checkout = happens(checkout / ".venv" / "bin" / "python") or checkout
    done = source(checkout, **variables)
    assert (done.returncode, done.stdout) == (0, f"{checkout}/.venv/bin/python\n"), done.stderr
    said, _ = done.stderr.splitlines()
    assert said.startswith("rebuilding .venv: its Python is missing or changed")
    assert not (checkout / ".venv" / "stale").exists()
    assert source(checkout, **variables).stderr == ""


@pytest.mark.parametrize("chosen", [True, False])
def test_a_folder_that_may_be_the_users_is_not_rebuilt(checkout, chosen):
    variables = {"SPARSE_JAX_PYTHON": checkout.parent / "python"}
    if chosen:
        variables["SPARSE_JAX_VENV"] = checkout / ".venv"
        assert source(checkout, **variables).returncode == 0
        gone(checkout / ".venv" / "bin" / "python")
    else:
        (checkout / ".venv" / "bin").mkdir(parents=True)
        (checkout / ".venv" / "bin" / "python").symlink_to("nowhere")
    before = contents(checkout)
    done = source(checkout, **variables)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert re.match("error: SPARSE_JAX_VENV: .* its Python is missing or changed; valid: ", done.stderr)
    assert contents(checkout) == before


def test_pip_installs_into_the_environment_wherever_it_is_told_to_elsewhere(checkout):
    elsewhere = {"PIP_USER": 1, "PIP_TARGET": "/a", "PIP_PREFIX": "/b", "PIP_ROOT": "/c"}
    done = source(checkout, SPARSE_JAX_PYTHON=checkout.parent / "python", **elsewhere)
    assert done.returncode == 0, done.stderr
    assert (checkout / "notes").read_text() == "0,,,: .\n"


def start(checkout: Path, **variables: object) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    inherited = environment(SPARSE_JAX_PYTHON=checkout.parent / "python", **variables)
    return subprocess.Popen(command(), cwd=checkout, env=inherited, start_new_session=True, **pipes)


def test_of_two_shells_one_waits_until_the_other_has_set_up(checkout):
    slowly = {"WHILE_INSTALLING": "touch begun; until [ -e go ]; do sleep 0.1; done"}
    first = start(checkout, **slowly)
    while not (checkout / "begun").exists():
        assert first.poll() is None
    second = start(checkout, **slowly)
    assert second.stderr.readline() == "waiting until another shell has set up .venv\n"
    assert second.poll() is None
    (checkout / "go").write_text("")
    for shell in (first, second):
        out, _ = shell.communicate(timeout=60)
        assert (shell.returncode, out) == (0, f"{checkout}/.venv/bin/python\n")
    assert (checkout / "notes").read_text().count("\n") == 1


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_shell_that_waits_can_be_ended_and_one_that_was_killed_keeps_no_other_out(checkout, sent):
    first = start(checkout, WHILE_INSTALLING="touch begun; exec sleep 60")
    while not (checkout / "begun").exists():
        assert first.poll() is None
    second = start(checkout)
    assert second.stderr.readline().startswith("waiting until")
    os.killpg(second.pid, sent)
    second.communicate(timeout=20)
    assert second.returncode != 0
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate(timeout=20)
    began = time.monotonic()
    done = source(checkout, SPARSE_JAX_PYTHON=checkout.parent / "python")
    assert done.returncode == 0 and "waiting" not in done.stderr and time.monotonic() - began < 20


# A machine whose devices are those of the variable DEVICES.
MACHINE = """compgen() {
  local device status=1
  case "$2" in /dev/*) ;; *) builtin compgen "$@"; return ;; esac
  for device in $DEVICES; do
    if [[ "$device" == $2 ]]; then echo "$device"; status=0; fi
  done
  return "$status"
}"""


def on_a_machine(checkout: Path, devices: str, gpus: bool = False, **variables: object):
    smi = checkout.parent / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\nexit {int(not gpus)}\n")
    smi.chmod(0o755)
    path = f"{checkout.parent}:{os.environ['PATH']}"
    known = {"SPARSE_JAX_ACCELERATOR": "", "SPARSE_JAX_PYTHON": checkout.parent / "python", "PATH": path}
    return source(checkout, before=MACHINE, DEVICES=devices, **known | variables)


@pytest.mark.parametrize(
    ("devices", "variables", "chosen"),
    [
        ("", {}, "cpu"),
        ("", {"TPU_NAME": "mine"}, "cpu"),
        ("/dev/vfio/vfio", {}, "cpu"),
        ("/dev/accel0 /dev/accel1", {}, "tpu"),
        ("/dev/vfio/0 /dev/vfio/vfio", {"TPU_NAME": "local"}, "tpu"),
        ("/dev/vfio/0 /dev/vfio/vfio", {"TPU_WORKER_ID": "0"}, "tpu"),
        ("/dev/nvidia0", {"gpus": True}, "cuda"),
        ("/dev/vfio/0", {"SPARSE_JAX_ACCELERATOR": "cpu"}, "cpu"),
        ("/dev/vfio/0", {"SPARSE_JAX_ACCELERATOR": "tpu"}, "tpu"),
    ],
)
def test_jax_is_installed_for_what_the_machine_has_and_that_is_said(checkout, devices, variables, chosen):
    done = on_a_machine(checkout, devices, **variables)
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"installing into .venv, jax for {chosen} (a minute or two)\n"
    extras = "" if chosen == "cpu" else f"[{chosen}]"
    assert (checkout / "notes").read_text() == f"0,,,: .{extras}\n"


@pytest.mark.parametrize("device", ["/dev/vfio/0", "/dev/nvidia0"])
def test_what_may_be_an_accelerator_is_not_passed_over(checkout, device):
    before = contents(checkout)
    done = on_a_machine(checkout, f"{device} {device}1")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"error: SPARSE_JAX_ACCELERATOR: not set, and {device} may be an accelerator" in done.stderr
    assert contents(checkout) == before
    unknown = on_a_machine(checkout, device, SPARSE_JAX_ACCELERATOR="gpu")
    assert unknown.stderr == "error: SPARSE_JAX_ACCELERATOR: 'gpu'; valid: cpu, cuda, tpu\n"


@pytest.mark.parametrize("where", [".venv", "absolute"])
def test_the_environment_comes_first_on_the_path(checkout, tmp_path, where):
    venv = tmp_path / "elsewhere" if where == "absolute" else Path(where)
    variables = {"SPARSE_JAX_PYTHON": tmp_path / "python", "SPARSE_JAX_VENV": venv, "PIP": 0}
    expected = f"{checkout / venv}/bin/python\n"
    first, again = source(checkout, **variables), source(checkout, **variables)
    assert (first.returncode, first.stdout) == (0, expected)
    assert (again.returncode, again.stdout, again.stderr) == (0, expected, "")
