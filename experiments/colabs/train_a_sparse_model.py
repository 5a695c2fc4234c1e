# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/sparse-jax/sparse_jax/blob/main/experiments/colabs/train_a_sparse_model.ipynb)
#
# # Train a sparse model
#
# Train a weight-sparse transformer on text of your own: some five minutes on a CPU, less on a GPU. All weights are there at first;
# then fewer and fewer are left, the largest of every matrix, until 5 % are. You watch the loss and the number of weights while it
# trains, sample from it, and go on after a disconnect.

# %% tags=["setup"]
"""A notebook. This cell finds the project, or fetches it, and installs it into the runtime."""

import os
import subprocess
import sys
from pathlib import Path

places = (Path.cwd(), *Path.cwd().parents, Path("sparse_jax"))
checkout = next((place for place in places if (place / "launch/colab.sh").exists()), None)
if checkout is None:  # a bare runtime
    subprocess.run(["git", "clone", "--depth=1", "https://github.com/sparse-jax/sparse_jax"], check=True)
    checkout = Path("sparse_jax")
os.chdir(checkout)
installed = subprocess.run(["bash", "launch/colab.sh", sys.executable], check=True)

# %% tags=["parameters"]
STEPS = 800
WIDTH = 128
DATA = "sparse_jax"  # folders of Python and files of text, with commas between them: here, this project's own code
WORKDIR = "runs/colab"

# %% [markdown]
# On Colab, what is on the machine is lost with it. Mount a folder of your Drive and keep the run there: after a disconnect, run the
# notebook again from the top, and training goes on from its last checkpoint, on the same kind of device with the same bits as if nothing
# had happened. Other settings need another `WORKDIR`: a run is never continued as another.

# %%
MOUNT = False  # True: keep the run in your Google Drive
if MOUNT:
    from google.colab import drive

    drive.mount("/content/drive")
    WORKDIR = "/content/drive/MyDrive/sparse_jax/colab"

# %%
import io
import json
import shutil
import threading

from IPython.display import Image, display
from matplotlib.figure import Figure

import sparse_jax as sj


def kept(path):
    """A copy of the text beside the run, made once: it stays as it is when the text at `path` changes."""
    copy = Path(WORKDIR) / "text" / path.strip("/").replace("/", "_")
    if not copy.exists():
        unfinished = copy.parent / "unfinished" / copy.name
        shutil.rmtree(unfinished.parent, ignore_errors=True)
        unfinished.parent.mkdir(parents=True)
        (shutil.copytree if Path(path).is_dir() else shutil.copy)(path, unfinished)
        unfinished.rename(copy)
    return str(copy)


config = sj.presets.quickstart(
    kind="sparse",
    d_model=WIDTH,
    data=[kept(path) for path in DATA.split(",")],
    **{
        "data.directory": f"{WORKDIR}/data",
        "training.steps": STEPS,
        "training.evaluate_every": max(1, STEPS // 6),
        "training.checkpoint_every": max(1, STEPS // 6),
    },
)
config.sparsity

# %% [markdown]
# A thread draws the plot below while training goes on. The stop button ends training after the current step, which is saved; run the
# cell again to go on. The same run from a shell would be `python -m experiments.train
# --config=experiments/configs/pretrain.py:size=quickstart --data=... --workdir=...`.


# %%
def metrics():
    """The rows that training has written so far."""
    path = Path(WORKDIR) / "metrics.jsonl"
    lines = path.read_text().split("\n") if path.exists() else []
    return [json.loads(line) for line in lines[:-1]]  # the last one may not be whole


def drawn(rows):
    """A picture of the loss, and of the number of weights of the layers that are not zero."""
    figure = Figure(figsize=(9, 3.2), layout="tight")
    left, right = figure.subplots(1, 2)
    for key, name in (("loss", "training"), ("validation/mixture", "validation")):
        points = [(row["step"], row[key]) for row in rows if key in row]
        left.plot(*(zip(*points) if points else ((), ())), label=name)
    left.set(xlabel="step", ylabel="nats a token")
    left.legend()
    points = [(row["step"], row["nonzero_layers"]) for row in rows if "nonzero_layers" in row]
    right.plot(*(zip(*points) if points else ((), ())), "o-")
    right.set(xlabel="step", ylabel="nonzero weights in the layers", yscale="log")
    figure.savefig(png := io.BytesIO(), format="png")
    return Image(png.getvalue())


picture = display(drawn(metrics()), display_id=True)
done = threading.Event()


def follow():
    """Draws anew every five seconds."""
    while not done.wait(timeout=5):
        picture.update(drawn(metrics()))


thread = threading.Thread(target=follow, daemon=True)
thread.start()
try:
    model = sj.train(config, WORKDIR)
finally:
    done.set()
    thread.join()
    picture.update(drawn(metrics()))
model

# %% [markdown]
# ## What it learned

# %%
print(sj.generate(model, "def ", tokens=60, temperature=0.7))

# %% [markdown]
# ## How sparse it is
#
# Share of the weights that are left, matrix by matrix.

# %%
import numpy as np

layers = model.params["layers"]
for part, matrices in (("attn", ("q", "k", "v", "out")), ("mlp", ("up", "down"))):
    for matrix in matrices:
        kernel = np.asarray(layers[part][matrix]["kernel"])
        kept = np.count_nonzero(kernel)
        print(f"{part}.{matrix:<6} {kernel.shape!s:<16} {kept:>8,} left, {kept / kernel.size:.1%}")

# %%
# nonzero weights, config and tokenizer: small enough to send to somebody
shutil.rmtree(f"{WORKDIR}/compact", ignore_errors=True)  # of an earlier call
sj.save(model, f"{WORKDIR}/compact")
print("the same:", sj.load(f"{WORKDIR}/compact").fingerprint == model.fingerprint)
