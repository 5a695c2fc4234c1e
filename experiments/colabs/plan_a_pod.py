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
CHANGES = ["model.d_model=1024", "model.remat=True", "training.mesh_fsdp=8"]

# %% [markdown]
# ## A config, and changes to it
#
# Every experiment is a file in `experiments/configs/`, and every field of it can be changed on the command line (`--config.model.d_model=1024`)
# or here. A name or value that does not fit is refused before any work.

# %%
import ast

from experiments.configs import pretrain
from sparse_jax.training.config import run_config

config = pretrain.get_config(f"size={SIZE},kind=sparse")
for change in CHANGES:
    name, _, value = change.partition("=")
    section, field = name.split(".")
    config[section][field] = ast.literal_eval(value)
run = run_config(config.to_dict())
print(config.model)

# %%
import sparse_jax as sj

try:
    sj.presets.paper(d_modle=1024)
except sj.InputError as error:
    print(error)

# %% [markdown]
# ## What it needs on these chips
#
# The compilers for TPUs come with the extra `plan`, a few hundred megabytes.

# %%
import importlib.util

if importlib.util.find_spec("libtpu") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "-e", ".[plan]"], check=True)
command = [sys.executable, "-m", "experiments.plan", f"--topology={TOPOLOGY}", "--programs=training"]
command += [f"--config=experiments/configs/pretrain.py:size={SIZE},kind=sparse"]
command += [f"--config.{change}" for change in CHANGES]
plan = subprocess.run(command, env={**os.environ, "JAX_PLATFORMS": "cpu"}, capture_output=True, text=True)
print(plan.stdout or plan.stderr)

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
command = ["bash", "launch/tpu_pod.sh", "--dry-run", "experiments.train"]
command += [f"--config=experiments/configs/pretrain.py:size={SIZE},kind=sparse"]
command += [f"--config.{change}" for change in CHANGES]
command += ["--workdir=gs://my-bucket/run1", "--config.data.directory=gs://my-bucket/data"]
dry = subprocess.run(command, env={**os.environ, **slice}, capture_output=True, text=True)
print(dry.stdout or dry.stderr)
