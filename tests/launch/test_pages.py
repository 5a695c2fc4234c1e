"""The static pages of launch/docs.sh, of notebooks that are not executed here."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sparse_jax

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.mark.slow
def test_sphinx_has_no_warning_and_every_public_name_an_entry(tmp_path):
    source, output = tmp_path / "source", tmp_path / "output"
    source.mkdir()
    pages = EXPERIMENTS / "pages"
    for path in (pages / "conf.py", pages / "index.md", *(EXPERIMENTS / "colabs").glob("*.ipynb")):
        shutil.copy(path, source)
    options = ["-W", "--keep-going", "-q", "-D", "nb_execution_mode=off", "-b", "html"]
    command = [sys.executable, "-m", "sphinx", *options, source, output]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reference = (output / "api.html").read_text()
    for name in sparse_jax.__all__:
        module = name == "presets"
        assert f'id="{"module-sparse_jax.training.presets" if module else f"sparse_jax.{name}"}"' in reference
    for notebook in (EXPERIMENTS / "colabs").glob("*.ipynb"):
        assert (output / f"{notebook.stem}.html").exists()
