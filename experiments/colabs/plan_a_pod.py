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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/sparse-jax/sparse_jax/blob/main/experiments/colabs/plan_a_pod.ipynb)
#
# # Plan a pod
#
# Before you rent 64 TPU chips: does the run fit, how long will it take, what will it cost? The training step is compiled here, on a CPU, for
# chips that you do not have. Then the launch script says, without doing it, what it would do. Ten minutes on a Colab CPU, most of them in the compiler.

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
SIZE = "paper"  # of experiments/configs/pretrain.py
TOPOLOGY = "v5e-16"
CHANGES = {"model.d_model": 1024, "model.remat": True, "training.mesh_fsdp": 8}

# %% [markdown]
# ## A config, and changes to it
#
# Every experiment is a file in `experiments/configs/`, and every field of it can be changed on the command line (`--config.model.d_model=1024`)
# or in a preset, which is the same config in Python. A name or value that does not fit is refused before any work.

# %%
import sparse_jax as sj

preset = getattr(sj.presets, SIZE)
print(preset(kind="sparse", **CHANGES).model)
try:
    preset(d_modle=1024)
except sj.InputError as error:
    print(error)

# %% [markdown]
# ## What it needs on these chips
#
# The compilers for TPUs come with the extra `plan`, a few hundred megabytes.


# %%
import importlib.util


def call(command, **environment):
    """Runs a command, prints what it says while it says it, and raises if it fails."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in process.stdout:
        print(line, end="")
    if process.wait() != 0:
        raise subprocess.CalledProcessError(process.returncode, command)


config = [f"--config=experiments/configs/pretrain.py:size={SIZE},kind=sparse"]
config += [f"--config.{field}={value}" for field, value in CHANGES.items()]
if TOPOLOGY.startswith("v") and importlib.util.find_spec("libtpu") is None:
    call([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-e", ".[plan]"])
print(f"compiling the training step for {TOPOLOGY}")
command = [sys.executable, "-m", "experiments.plan", f"--topology={TOPOLOGY}", "--programs=training", *config]
call(command, JAX_PLATFORMS="cpu")

# %% [markdown]
# ## What the launch script would do
#
# It asks for the slice, waits for it, installs this checkout on every worker, starts the run on all of them, and asks again if the slice is
# taken away. `--dry-run` only prints the commands.

# %%
slice = {
    "PROJECT": "my-project",
    "ZONE": "us-west4-a",
    "NAME": "run1",
    "ACCELERATOR": "v5litepod-16",
    "VERSION": "v2-alpha-tpuv5-lite",
    "REPOSITORY": "https://github.com/sparse-jax/sparse_jax",
}
buckets = ["--workdir=gs://my-bucket/run1", "--config.data.directory=gs://my-bucket/data"]
call(["bash", "launch/tpu_pod.sh", "--dry-run", "experiments.train", *config, *buckets], **slice)
