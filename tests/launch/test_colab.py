"""What is installed into a notebook's runtime depends on the jax and NumPy that are there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

from experiments import notebooks

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "launch" / "colab.sh"

# Stands for a runtime's Python: a package's version is in a file of its name, and pip notes what it is told.
PYTHON = f"""#!/bin/bash
here="$(dirname "$0")"
if [ "$2" = pip ]; then
  echo "${{!#}}" >> "$here/told"
  for word; do [ "$last" != --constraint ] || cat "$word" >> "$here/told"; last="$word"; done
  echo 0.2.0 > "$here/sparse_jax"
  case "$(cat "$here/numpy" 2>/dev/null)" in 1.*) echo 2.0.0 > "$here/numpy" ;; esac
  case "$(cat "$here/jax" 2>/dev/null)" in 0.10.*|0.11.*) ;; *) echo 0.11.0 > "$here/jax" ;; esac
elif [ -n "$3" ]; then
  cat "$here/$3" 2>/dev/null || true
else
  exec {sys.executable} "$@"
fi
"""


@pytest.fixture
def runtime(tmp_path):
    """A function that calls the script with the packages that are there; what it printed, and told pip."""
    python, told = tmp_path / "python", tmp_path / "told"
    python.write_text(PYTHON)
    python.chmod(0o755)
    (tmp_path / "nvidia-smi").write_text("#!/bin/bash\nexit $NO_GPU\n")
    (tmp_path / "nvidia-smi").chmod(0o755)

    def call(there=(), gpu=False, status=0, **variables):
        for package, version in dict(there).items():
            (tmp_path / package).write_text(f"{version}\n")
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TPU_", "COLAB_"))}
        environment = {**kept, "PATH": path, "NO_GPU": "0" if gpu else "1", **variables}
        done = subprocess.run(["bash", SCRIPT, python], env=environment, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr, told.read_text().split() if told.exists() else []

    return call


@pytest.mark.parametrize(
    ("there", "gpu", "variables", "extras"),
    [
        ({}, False, {}, "study"),
        ({"jax": "0.8.3"}, False, {}, "study"),
        ({"jax": "0.8.3"}, True, {}, "study,cuda"),
        # of two plugins for one kind of device, JAX would load both
        ({"jax": "0.8.3", "jax-cuda12-plugin": "0.8.3"}, True, {}, "study,cuda12"),
        ({"jax": "0.8.3"}, False, {"TPU_ACCELERATOR_TYPE": "v5e-1"}, "study,tpu"),
        # one that fits has plugins that fit it
        ({"jax": "0.10.4", "jax-cuda12-plugin": "0.10.4"}, True, {}, "study"),
        ({"jax": "0.11.0"}, False, {"TPU_ACCELERATOR_TYPE": "v5e-1"}, "study"),
    ],
)
def test_a_jax_that_fits_stays_and_another_is_replaced_with_its_plugins(
    runtime, there, gpu, variables, extras
):
    said, told = runtime(there, gpu, **variables)
    assert told == [f".[{extras}]"]
    assert ("does not fit and was replaced by 0.11.0" in said) == (there.get("jax") == "0.8.3")


def test_it_installs_once(runtime):
    runtime()
    assert runtime() == ("", [".[study]"])


def test_numpy_stays(runtime):
    said, told = runtime({"jax": "0.8.3", "numpy": "2.0.2"})
    assert told == [".[study]", "numpy==2.0.2"] and "numpy" not in said


def test_a_numpy_that_cannot_stay_ends_the_cell(runtime):
    said, told = runtime({"numpy": "1.26.4"}, status=3)
    assert told == [".[study]"]
    assert "numpy 1.26.4 does not fit and was replaced by 2.0.0; restart the runtime" in said


# What a notebook's process does: it has NumPy in memory before the first cell is run.
KERNEL = """
import numpy
before = numpy.__version__
exec(open("setup_cell.py").read())
import sparse_jax as sj
print(sj.load("experiments/results/small/sparse").origin, before == numpy.__version__)
"""


@pytest.mark.slow
def test_a_runtime_with_an_older_jax_gets_past_its_first_cells(tmp_path):
    """With real packages, which differ by version of Python."""
    for part in ("experiments", "launch", "sparse_jax"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / part, tmp_path)
    setup = jupytext.read(notebooks.sources()[0]).cells[1].source
    (tmp_path / "setup_cell.py").write_text(setup)
    subprocess.run([_python(), "-m", "venv", tmp_path / "runtime"], check=True)
    python = tmp_path / "runtime" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "jax==0.7.2", "numpy==2.0.2"], check=True)
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = {**alone, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [python, "-c", KERNEL], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "jax 0.7.2 does not fit and was replaced by 0.1" in done.stdout
    assert done.stdout.splitlines()[-1] == "experiments/results/small/sparse True"


def _python():
    """Python 3.12, as Colab has it, if there is one; else the Python of the tests."""
    found = shutil.which("python3.12")
    runs = found and subprocess.run([found, "--version"], capture_output=True).returncode == 0
    return found if runs else sys.executable
