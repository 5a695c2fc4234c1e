"""Notebooks are what their sources say, without outputs, and run from top to bottom."""

import configparser
import json
import math
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import sparse_jax as sj
from experiments import notebooks

ROOT = Path(__file__).parents[2]
SMALL = ROOT / "experiments" / "results" / "small" / "sparse"
CIRCUITS = ROOT / "experiments" / "results" / "faithfulness" / "circuits" / "sparse"
NAMES = [source.stem for source in notebooks.sources()]
# small sizes, set after a notebook's own parameters
TINY = {
    "look_at_a_circuit": """
import json

for side, name in (("sparse", TASK), ("sparse", READ), ("dense", TASK)):
    found = json.loads(open(f"{CIRCUITS}/{side}/mean/{name}.json").read())
    found["provenance"]["pruning"]["test_pairs"] = PAIRS = 4
    del found["provenance"]["pairs"]  # fewer are others
    os.makedirs(f"few_pairs/{side}/mean", exist_ok=True)
    with open(f"few_pairs/{side}/mean/{name}.json", "w") as file:
        file.write(json.dumps(found))
CIRCUITS = "few_pairs"
""",
    "find_a_circuit": "STEPS, PAIRS, TARGET = 60, 8, 0.34",
    "is_it_real": "STEPS, PAIRS = 10, 4",
    "train_a_sparse_model": 'STEPS, WIDTH, DATA = 30, 80, "sparse_jax/tasks"',
    "bring_your_model": 'STEPS, GPT2 = 5, "no/such-model"',
    "plan_a_pod": 'SIZE, TOPOLOGY, CHANGES = "tiny", "cpu:4", {"model.n_layers": 1}',
}
SHOWN = {
    "look_at_a_circuit": ["<- flips"],
    "find_a_circuit": ["image/png"],
    "is_it_real": ["ufficient under"],
    "train_a_sparse_model": ["the same: True", "image/png"],
    "bring_your_model": [
        "the same: True",
        "CompactCircuit(17 nodes",
        "transcoder_list",
        "path in experiments",
    ],
    "plan_a_pod": ["peak per device", "gcloud"],
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


QUICK = ("plan_a_pod",)
EACH = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in NAMES]


@pytest.mark.parametrize("name", EACH)
def test_it_runs_from_top_to_bottom(name, tmp_path):
    checkout(tmp_path)
    said = executed(name, tmp_path)
    assert all(shown in said for shown in SHOWN[name])
    assert "Warning" not in said and "\\r" not in said


@pytest.mark.slow
def test_the_circuits_of_is_it_real_do_what_its_text_says():
    """With the pairs that a reader has: one fails where the other does not."""
    cells = jupytext.read(notebooks.FOLDER / "is_it_real.py").cells
    (cell,) = (cell.source for cell in cells if "parameters" in cell.metadata.get("tags", []))
    chosen = {}
    exec(cell, chosen)
    model = sj.load(SMALL)
    losses = {}
    for recipe in ("mean", "strict"):
        circuit = sj.load_circuit(f"{CIRCUITS}/{recipe}/{chosen['TASK']}.json", model)
        for ablation in ("mean", "resample", "stochastic", "zero", "resample_position"):
            score = sj.score(model, chosen["TASK"], circuit=circuit, ablation=ablation, pairs=chosen["PAIRS"])
            losses[recipe, ablation] = score.loss
    target, guess = 0.15, math.log(2)
    assert losses["mean", "mean"] < target and losses["mean", "resample"] > guess
    assert all(losses["strict", asked] < target for asked in ("mean", "resample", "stochastic"))
    for unasked in ("zero", "resample_position"):
        assert 0.4 < losses["strict", unasked] / losses["mean", unasked] < 0.6


def checkout(folder):
    """Copies what a notebook needs, and what Python has compiled of it."""
    for part in ("experiments", "launch", "sparse_jax"):
        # not the unfinished files of other processes, which may be gone by then
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("*.pyc.*"))
    for part in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / part, folder)


def executed(name, folder, parameters=None):
    """The outputs of a notebook in a checkout, as JSON. Raises what a cell raises."""
    found = notebooks.notebook(notebooks.FOLDER / f"{name}.py")
    place = next(i for i, cell in enumerate(found.cells) if "parameters" in cell.metadata.get("tags", []))
    found.cells.insert(place + 1, nbformat.v4.new_code_cell(parameters or TINY[name]))
    NotebookClient(found, timeout=900, resources={"metadata": {"path": folder}}).execute()
    return json.dumps([cell.outputs for cell in found.cells if cell.cell_type == "code"])


@pytest.mark.slow
def test_training_is_taken_up_by_running_the_notebook_again(tmp_path):
    """Also after the text that it trains on has changed."""
    checkout(tmp_path)
    first = executed("train_a_sparse_model", tmp_path)
    (tmp_path / "sparse_jax" / "tasks" / "later.py").write_text("LATER = 1\n" * 1000)
    rows = (tmp_path / "runs" / "colab" / "metrics.jsonl").read_text()
    again = executed("train_a_sparse_model", tmp_path)
    assert "the same: True" in first and "the same: True" in again
    assert (tmp_path / "runs" / "colab" / "metrics.jsonl").read_text() == rows


@pytest.mark.slow
def test_the_stop_button_ends_training_and_what_is_done_is_saved(tmp_path):
    checkout(tmp_path)
    workdir = tmp_path / "runs" / "colab"
    metrics = workdir / "metrics.jsonl"

    def press():
        while not metrics.exists() or '"loss"' not in metrics.read_text():
            time.sleep(1)
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    endless = TINY["train_a_sparse_model"].replace("30,", "100_000,")
    with pytest.raises(CellExecutionError, match="KeyboardInterrupt"):
        executed("train_a_sparse_model", tmp_path, f"{endless}\nPath('pid').write_text(str(os.getpid()))")
    (saved,) = (int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit())
    assert 0 < saved < 100_000
