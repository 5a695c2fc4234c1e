import os
import subprocess
import sys

import pytest

from experiments.studies import figure
from sparse_jax.inputs import InputError

DRAW = "from experiments.studies.figure import require_figures; require_figures()"


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense"])
def test_the_backend_of_a_notebook_changes_nothing(backend):
    environment = {**os.environ, "MPLBACKEND": backend}
    done = subprocess.run([sys.executable, "-c", DRAW], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_environment_stays_as_it_was(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "x")
    figure.new_figure()
    assert os.environ["MPLBACKEND"] == "x"


def test_a_missing_matplotlib_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(
        InputError, match=r"figures: need matplotlib; valid: pip install 'sparse_jax\[study\]'"
    ):
        figure.require_figures()
