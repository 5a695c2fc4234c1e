"""The launch scripts parse, and the environment is refused, made and found as they say."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"

# Stands for a Python whose environments have a pip that does what PIP says.
PYTHON = """#!/bin/sh
case "$2" in
  venv) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  pip) exit "$PIP" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path):
    root = tmp_path / "checkout"
    shutil.copytree(LAUNCH, root / "launch")
    (root / "setup.cfg").write_text("")
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    return root


def source(checkout: Path, **variables: object) -> subprocess.CompletedProcess:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("SPARSE_JAX_")}
    variables = {name: str(value) for name, value in variables.items()}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "source launch/environment.sh; command -v python"],
        cwd=checkout,
        env=inherited | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )


def contents(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize("script", sorted(LAUNCH.glob("*.sh")), ids=lambda path: path.name)
def test_a_script_parses(script):
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


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


@pytest.mark.parametrize("where", [".venv", "absolute"])
def test_the_environment_comes_first_on_the_path(checkout, tmp_path, where):
    venv = tmp_path / "elsewhere" if where == "absolute" else Path(where)
    variables = {"SPARSE_JAX_PYTHON": tmp_path / "python", "SPARSE_JAX_VENV": venv, "PIP": 0}
    expected = f"{checkout / venv}/bin/python\n"
    first, again = source(checkout, **variables), source(checkout, **variables)
    assert (first.returncode, first.stdout) == (0, expected)
    assert (again.returncode, again.stdout, again.stderr) == (0, expected, "")
