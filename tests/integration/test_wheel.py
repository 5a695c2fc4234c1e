"""What a wheel brings is enough: presets, page templates and the public names, outside a checkout."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from sparse_jax.tasks.pair import Pair

ROOT = Path(__file__).parents[2]
START = """
import sys
from importlib.util import find_spec
from pathlib import Path
import numpy as np
import sparse_jax as sj
installed = Path(sys.argv[1])
assert Path(sj.__file__).parent == installed / "sparse_jax", sj.__file__
"""
# What a notebook is for, line by line; sizes are tiny where a model or a circuit is made.
MODELS = """
assert (installed / "sparse_jax" / "py.typed").exists()
model = sj.load("experiments/results/small/sparse")
assert "2 layers" in repr(model)
assert model.config.d_model == 256 and model.params and model.tokenizer and len(model.fingerprint) == 16
for format in ("compact", "hf"):
    sj.save(model, f"out/{format}", format=format)
assert sj.load("out/compact").fingerprint == model.fingerprint
np.testing.assert_allclose(sj.run(sj.load("out/hf"), "for x")[0], sj.run(model, "for x")[0], atol=1e-4)
config = sj.presets.quickstart(kind="sparse", d_model=128, **{"training.steps": 500})
assert config.model.d_model == 128 and config.training.steps == 500

logits, acts = sj.run(model, "for x", capture=("q", "mlp_neuron"))
assert logits.shape == (1, 2, 1024) and acts["mlp_neuron"].shape == (2, 1, 2, 1024)
changed, _ = sj.run(model, "for x", ablate={"1.mlp_neuron.17": "mean"})
vector = acts["q"][0, 0, -1]
added, _ = sj.run(model, "for x", add={"0.resid_mid": vector})
assert all((other != logits).any() for other in (changed, added))
circuit = sj.load_circuit("else_elif.json")
text = sj.generate(model, "def ", circuit=circuit)
assert text.startswith("def ") and text != "def "

task = sj.task("for_while")
pairs = [(f"{i}: for x", f"{i}: while x", " in", ":\\n") for i in range(40)]
for task in (task, sj.task(pairs), sj.task("mine.jsonl"), sj.task("mine.py:function")):
    assert task._repr_html_().count("<mark>") == 6
    assert sj.score(model, task, pairs=4).pairs == 4

assert (circuit.model, circuit.task) == (model.fingerprint, "else_elif")
assert len(circuit.nodes) == 2 and len(circuit.edges) == 1 and circuit.losses["target"] == 0.15
assert "<svg" in circuit._repr_html_()
card = sj.scorecard(model, circuit, "else_elif", pairs=8)
card.save("card.json")
assert "95 % interval" in card._repr_html_()
small = circuit.compact(model)
tokens = sj.token_ids(model, "if x")
assert small.forward(tokens).shape[:2] == tokens.shape
code = circuit.code(model)
compile(code, "code", "exec")
sj.report([circuit], "report.html", card, code=code)
assert "<iframe" in sj.view(circuit)._repr_html_()
"""
PRUNING = """
model = sj.load("experiments/results/small/sparse")
circuit = sj.prune(model, "for_while", target_loss=0.5, k_coef=3e-3, learning_rate=0.05, steps=5,
                   pairs_per_step=4, train_pairs=16, validation_pairs=8, test_pairs=8)
again = sj.prune(model, ["for_while"], target_loss=0.5, steps=5, lanes=2, edges=True, directory="circuits",
                 pairs_per_step=4, train_pairs=16, validation_pairs=8, test_pairs=8, learning_rate=0.05)
assert again[0].edge_gated and sj.score(model, "for_while", circuit=circuit, ablation="resample").pairs == 256
circuit.save("circuit.json")
sj.report(sj.load_circuit("circuit.json"), "report.html")
assert "for_while" in Path("report.html").read_text()

steps = {"training.steps": 2, "training.batch_size": 2, "training.evaluation_windows": 2}
text = [str(installed / "sparse_jax" / "data")]
tiny = sj.train(sj.presets.tiny(data=text, n_layers=1, d_model=16, **steps), "runs/mine")
assert sj.load("runs/mine").fingerprint == tiny.fingerprint
task, other = sj.task([(f"x{i} = (", f"y{i} = (", "1", "2") for i in range(90)]), sj.task("mine.jsonl")
search = 2 if find_spec("optuna") else 0
circuits = sj.prune(tiny, [task, other], lanes=2, search=search, edges=True, target_loss=0.8, steps=5,
                    pairs_per_step=4, train_pairs=16, validation_pairs=8, test_pairs=8, learning_rate=0.05)
assert [circuit.task for circuit in circuits] == ["pairs", "mine"]
sj.report(circuits, "report.html")
"""


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """The Python of a new environment with the wheel of a copy of the source; dependencies come from here."""
    folder = tmp_path_factory.mktemp("wheel")
    source, home = folder / "source", folder / "environment"
    source.mkdir()
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "sparse_jax", source / "sparse_jax", ignore=ignored)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    python = home / "bin" / "python"
    install = ["--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([*pip, *install], check=True)
    (packages,) = home.glob("lib/*/site-packages")
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return python, packages


@pytest.fixture
def work(tmp_path):
    """A folder with nothing in it but a model, a circuit and tasks of the user's own."""
    small = Path("experiments/results/small/sparse")
    shutil.copytree(ROOT / small, tmp_path / small)
    circuits = ROOT / "experiments/results/faithfulness/circuits/sparse/mean"
    shutil.copy(circuits / "else_elif.json", tmp_path)
    pairs = [Pair(f"for x{i} = (", f"if x{i} = (", "1", "2") for i in range(90)]
    (tmp_path / "mine.jsonl").write_text("\n".join(json.dumps(dataclasses.asdict(pair)) for pair in pairs))
    (tmp_path / "mine.py").write_text(
        "def function(rng):\n"
        "    name = rng.choice('abcdefgh') + rng.choice('abcdefgh')\n"
        "    return f'for {name}« in»', f'while {name}«:\\n»'\n"
    )
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("lines", [MODELS, PRUNING], ids=["models", "pruning"])
def test_the_public_face_works_outside_the_checkout(fresh, work, lines):
    python, packages = fresh
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    environment.pop("PYTHONPATH", None)
    command = [str(python), "-c", START + lines, str(packages)]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    script = (ROOT / "sparse_jax/viewer/template/numbers.js").read_text()
    assert script[:200] in (work / "report.html").read_text()
