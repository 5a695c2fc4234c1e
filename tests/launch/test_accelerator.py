"""Wheels for a machine without a network: what is taken along, and that the machine's jax stays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.test_scripts import checkout  # noqa: F401 (a fixture)

# Stands for the machine's Python, of which environments are copies. It notes what it is told to run.
PYTHON = f"""#!/bin/bash
here="$(cd "$(dirname "$0")" && pwd)"
note() {{ echo "$*" >> "$NOTES"; }}
case "$1 $2" in
  "-m venv")
    folder="${{!#}}"
    mkdir -p "$folder/bin" "$folder/packages" && cp "$0" "$folder/bin/python" ;;
  "-m pip")
    note "pip ${{*:3}}"
    for word in "$@"; do
      case "$previous" in
        --wheel-dir) touch "$word/promise-2.3-py3-none-any.whl" ;;
        --dest) mkdir -p "$word"; cp "$previous_link"/*.whl "$word"
          for name in $DOWNLOADED; do touch "$word/$name-1.0-py3-none-any.whl"; done ;;
        --find-links) previous_link="$word" ;;
        -c) note "kept: $(tr '\\n' ' ' < "$word")" ;;
        -r) note "wanted: $(tr '\\n' ' ' < "$word")" ;;
      esac
      previous="$word"
    done
    exit "${{PIP:-0}}" ;;
  "-m experiments.bench.accelerator") note "python $*"; exit "${{MEASURED:-0}}" ;;
  *)
    case "$2" in
      *purelib*) echo "$here/../packages" ;;
      *importlib.metadata*) [ -n "$JAX" ] && printf 'jax==%s\\njaxlib==%s\\n' "$JAX" "$JAX" ;;
      *) exec {sys.executable} "$@" ;;
    esac ;;
esac
"""
SETUP = """
[options]
install_requires =
    jax>=0.10,<0.12
    # why
    grain>=0.2

[options.extras_require]
accelerator =
    pytest>=8
"""


@pytest.fixture
def call(checkout, tmp_path):  # noqa: F811
    """A function that calls the script on such a machine: what it ended with, and the notes of this call."""
    (checkout / "setup.cfg").write_text(SETUP)
    (tmp_path / "machine").write_text(PYTHON)
    (tmp_path / "machine").chmod(0o755)
    notes = tmp_path / "notes"

    def run(*arguments, **variables):
        notes.write_text("")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SPARSE_JAX_", "PIP"))}
        about = {"SPARSE_JAX_PYTHON": tmp_path / "machine", "NOTES": notes, "JAX": "0.11.2", **variables}
        done = subprocess.run(
            ["bash", checkout / "launch" / "accelerator.sh", *map(str, arguments)],
            env=inherited | {name: str(value) for name, value in about.items()},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done, notes.read_text().splitlines()

    return run


def names(folder: Path) -> set[str]:
    return {path.name.split("-")[0] for path in folder.iterdir()}


def test_wheels_are_those_of_the_machine_and_jax_is_not_among_them(call, tmp_path):
    downloaded = {"DOWNLOADED": "jax jaxlib numpy grain absl_py"}
    done, notes = call("wheels", "taken", **downloaded)
    assert done.returncode == 0, done.stderr
    assert names(tmp_path / "taken") == {"promise", "grain", "absl_py"}
    _, download, wanted = notes
    assert "--only-binary=:all: --python-version 3.12" in download and "manylinux_2_28_x86_64" in download
    assert wanted == "wanted: jax>=0.10,<0.12 grain>=0.2 pytest>=8 "
    (tmp_path / "has").write_text("Absl.Py==2.1\nnothing @ file:///x\n")
    assert call("wheels", "less", SPARSE_JAX_HAS="has", **downloaded)[0].returncode == 0
    assert names(tmp_path / "less") == {"promise", "grain"}


def test_a_download_that_fails_leaves_the_folder_as_it_was(call, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine-1.whl").touch()
    done, _ = call("wheels", "taken", DOWNLOADED="grain", PIP=1)
    assert done.returncode != 0 and names(tmp_path / "taken") == {"mine"}


@pytest.fixture
def taken(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "grain-1.0-py3-none-any.whl").touch()
    return tmp_path / "taken"


def test_the_machines_jax_stays_and_the_command_gets_its_flags(call, taken, checkout):  # noqa: F811
    done, notes = call("run", "taken", "--minutes=9", "--part=kernel,steps")
    assert done.returncode == 0, done.stderr
    install, kept, wanted, measured = notes
    assert f"--no-index --find-links {taken}" in install
    assert kept == "kept: jax==0.11.2 jaxlib==0.11.2 "
    assert wanted.startswith("wanted: jax>=0.10,<0.12 grain")
    assert measured == "python -m experiments.bench.accelerator --minutes=9 --part=kernel,steps"
    assert (checkout / "build" / "accelerator" / "packages" / "machine.pth").read_text().strip()


def test_it_installs_again_only_for_other_wheels_or_another_jax(call, taken):
    first, again = (len(call("run", "taken")[1]) for _ in range(2))
    assert (first, again) == (4, 1)
    assert len(call("run", "taken", JAX="0.11.3")[1]) == 4
    (taken / "optax-1.0-py3-none-any.whl").touch()
    assert len(call("run", "taken", JAX="0.11.3")[1]) == 4


def test_an_installation_that_fails_is_tried_again_and_nothing_is_measured(call, taken):
    done, notes = call("run", "taken", PIP=1)
    assert done.returncode == 1 and not any("experiments" in note for note in notes)
    assert len(call("run", "taken")[1]) == 4


def test_the_status_is_that_of_the_command(call, taken):
    assert call("run", "taken", MEASURED=75)[0].returncode == 75


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        ((), {}, "error: ''; valid: wheels FOLDER, run FOLDER [FLAG...]"),
        (("get", "taken"), {}, "error: 'get'; valid: wheels FOLDER"),
        (("wheels",), {}, "error: FOLDER: '' cannot be made; valid: "),
        (("run", "empty"), {}, "error: FOLDER: 'empty' has no wheels; valid: "),
        (("run", "taken"), {"JAX": ""}, "has no jax 0.10 or 0.11; valid: "),
        (("run", "taken"), {"SPARSE_JAX_PYTHON": "/bin/false"}, "error: SPARSE_JAX_PYTHON: /bin/false"),
        (("run", "taken"), {"SPARSE_JAX_VENV": "/tmp"}, "error: SPARSE_JAX_VENV: /tmp is not of this script"),
        (("wheels", "new"), {"SPARSE_JAX_TARGET": "3.9"}, "error: SPARSE_JAX_TARGET: '3.9'; valid: 3.11"),
        (("wheels", "new"), {"SPARSE_JAX_HAS": "none"}, "error: SPARSE_JAX_HAS: 'none' is not a file"),
    ],
)
def test_what_cannot_work_is_named(call, taken, arguments, variables, said):
    done, notes = call(*arguments, **variables)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1
    assert notes == []
