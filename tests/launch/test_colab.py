"""What is installed into a notebook's runtime depends on the jax that is there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "launch" / "colab.sh"

# Stands for a runtime's Python: a package's version is in a file of its name, and pip notes what it is told.
PYTHON = f"""#!/bin/bash
here="$(dirname "$0")"
if [ "$2" = pip ]; then
  echo "${{!#}}" >> "$here/told"
  echo 0.2.0 > "$here/sparse_jax"
  case "$(cat "$here/jax" 2>/dev/null)" in 0.10.*|0.11.*) ;; *) echo 0.11.0 > "$here/jax" ;; esac
elif [ -n "$3" ]; then
  cat "$here/$3" 2>/dev/null || true
else
  exec {sys.executable} "$@"
fi
"""


@pytest.fixture
def runtime(tmp_path):
    """A function that calls the script with the jax that is there, and gives what it printed."""
    python, told = tmp_path / "python", tmp_path / "told"
    python.write_text(PYTHON)
    python.chmod(0o755)
    (tmp_path / "nvidia-smi").write_text("#!/bin/bash\nexit $NO_GPU\n")
    (tmp_path / "nvidia-smi").chmod(0o755)

    def call(jax=None, gpu=False, **variables):
        if jax is not None:
            (tmp_path / "jax").write_text(f"{jax}\n")
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TPU_", "COLAB_"))}
        environment = {**kept, "PATH": path, "NO_GPU": "0" if gpu else "1", **variables}
        done = subprocess.run(
            ["bash", SCRIPT, python], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout, told.read_text().split() if told.exists() else []

    return call


@pytest.mark.parametrize(
    ("jax", "gpu", "variables", "extras"),
    [
        (None, False, {}, "study"),
        ("0.8.3", False, {}, "study"),
        ("0.8.3", True, {}, "study,cuda"),
        ("0.8.3", False, {"TPU_ACCELERATOR_TYPE": "v5e-1"}, "study,tpu"),
        # one that fits has plugins that fit it
        ("0.10.4", True, {}, "study"),
        ("0.11.0", False, {"TPU_ACCELERATOR_TYPE": "v5e-1"}, "study"),
    ],
)
def test_a_jax_that_fits_stays_and_another_is_replaced_with_its_plugins(runtime, jax, gpu, variables, extras):
    said, told = runtime(jax, gpu, **variables)
    assert told == [f".[{extras}]"]
    assert ("does not fit and was replaced by 0.11.0" in said) == (jax == "0.8.3")


def test_it_installs_once(runtime):
    runtime()
    assert runtime() == ("", [".[study]"])
