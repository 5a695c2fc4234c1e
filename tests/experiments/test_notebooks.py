"""Notebooks are what their sources say, without outputs, and run from top to bottom."""

import configparser
import json
import shutil
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

from experiments import notebooks

ROOT = Path(__file__).parents[2]
NAMES = [source.stem for source in notebooks.sources()]
# small sizes, set after a notebook's own parameters
TINY = {
    "look_at_a_circuit": """
import json

found = json.loads(open(CODE).read())
found["provenance"]["pruning"]["test_pairs"] = PAIRS = 4
del found["provenance"]["pairs"]  # fewer are others
CODE = "few_pairs.json"
with open(CODE, "w") as file:
    file.write(json.dumps(found))
""",
    "find_a_circuit": "STEPS, PAIRS, TARGET = 20, 8, 0.5",
    "is_it_real": "STEPS, PAIRS = 10, 4",
    "train_a_sparse_model": 'STEPS, WIDTH, DATA = 30, 80, "sparse_jax/tasks"',
    "bring_your_model": 'STEPS, GPT2 = 5, "no/such-model"',
    "plan_a_pod": 'SIZE, TOPOLOGY, CHANGES = "tiny", "v5e-4", ["model.d_model=32"]',
}
SHOWN = {
    "look_at_a_circuit": "<- flips",
    "find_a_circuit": "image/png",
    "is_it_real": "ufficient under",
    "train_a_sparse_model": "the same: True",
    "bring_your_model": "the same: True",
    "plan_a_pod": "gcloud",
}


def test_there_is_a_source_for_each():
    found = sorted(path.stem for path in notebooks.FOLDER.glob("*.ipynb"))
    assert NAMES == found == sorted(TINY) and len(NAMES) == 6


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_its_source_without_outputs(name):
    """If this fails: `python -m experiments.notebooks`, and look at the difference."""
    source = notebooks.FOLDER / f"{name}.py"
    kept = json.loads(source.with_suffix(".ipynb").read_text())
    assert kept == json.loads(nbformat.writes(notebooks.notebook(source)))
    code = [cell for cell in kept["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    tags = [tag for cell in code for tag in cell["metadata"].get("tags", [])]
    assert tags == ["setup", "parameters"]


def test_all_begin_alike_with_a_badge_that_opens_them_from_the_repository_of_setup_cfg():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    url = setup["metadata"]["url"]
    starts = set()
    for name in NAMES:
        badge, start, *_ = jupytext.read(notebooks.FOLDER / f"{name}.py").cells
        path = url.removeprefix("https://github.com/")
        assert f"/github/{path}/blob/main/experiments/colabs/{name}.ipynb)" in badge.source
        starts.add(start.source)
    (start,) = starts
    assert f'"{url}"' in start


QUICK = ("look_at_a_circuit",)
EACH = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in NAMES]


@pytest.mark.parametrize("name", EACH)
def test_it_runs_from_top_to_bottom(name, tmp_path):
    if name == "plan_a_pod":
        pytest.importorskip(
            "libtpu"
        )  # it would be installed, and this checkout's package replaced by the copy
    for part in ("experiments", "launch", "sparse_jax"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / part, tmp_path)
    found = notebooks.notebook(notebooks.FOLDER / f"{name}.py")
    place = next(i for i, cell in enumerate(found.cells) if "parameters" in cell.metadata.get("tags", []))
    found.cells.insert(place + 1, nbformat.v4.new_code_cell(TINY[name]))
    client = NotebookClient(found, timeout=900, resources={"metadata": {"path": tmp_path}})
    client.execute()  # raises what a cell raises
    said = json.dumps([cell.outputs for cell in found.cells if cell.cell_type == "code"])
    assert SHOWN[name] in said
    assert "Warning" not in said and "\\r" not in said
