"""What a wheel brings is enough: presets, page templates and the public names, outside a checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINES = """
import sys
from pathlib import Path
import sparse_jax as sj
installed, model_at = map(Path, sys.argv[1:])
assert Path(sj.__file__).parent == installed / "sparse_jax", sj.__file__
assert (installed / "sparse_jax" / "py.typed").exists()
assert sj.presets.quickstart(d_model=64).model.d_model == 64
model = sj.load(model_at)
logits, _ = sj.run(model, "for x", ablate="1.mlp_neuron.17")
assert logits.shape == (1, 2, 1024)
circuit = sj.prune(model, "for_while", target_loss=0.5, k_coef=3e-3, learning_rate=0.05, steps=5,
                   pairs_per_step=4, train_pairs=16, validation_pairs=8, test_pairs=8)
again = sj.prune(model, ["for_while"], target_loss=0.5, steps=5, lanes=2, edges=True, directory="circuits",
                 pairs_per_step=4, train_pairs=16, validation_pairs=8, test_pairs=8, learning_rate=0.05)
assert again[0].edge_gated and sj.score(model, "for_while", circuit=circuit, ablation="resample").pairs == 256
circuit.save("circuit.json")
sj.report(sj.load_circuit("circuit.json"), "report.html")
sj.save(model, "copy")
assert sj.load("copy").fingerprint == model.fingerprint
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


@pytest.mark.slow
def test_the_public_face_works_outside_the_checkout(fresh, tmp_path):
    python, packages = fresh
    model = tmp_path / "model"
    shutil.copytree(ROOT / "experiments" / "results" / "small" / "sparse", model)
    work = tmp_path / "work"
    work.mkdir()
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    environment.pop("PYTHONPATH", None)
    command = [str(python), "-c", LINES, str(packages), str(model)]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (work / "report.html").read_text()
    assert "for_while" in page and (ROOT / "sparse_jax/viewer/template/numbers.js").read_text()[:200] in page
