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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/sparse-jax/sparse_jax/blob/main/experiments/colabs/find_a_circuit.ipynb)
#
# # Find a circuit
#
# Prune a built-in task, then one of your own, in a weight-sparse and in a dense model that predict text equally well. Some five
# minutes on two CPU cores; the numbers below are set for that, and more steps find smaller circuits.

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
TASK = "for_while"
TARGET = 0.15  # nats; chance is 0.693
STEPS = 100
PAIRS = 32  # to choose a circuit's size on; more are slower and more certain

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np

import sparse_jax as sj

jax.config.update("jax_default_matmul_precision", "highest")  # GPUs and TPUs would round what they multiply
models = {side: sj.load(f"experiments/results/small/{side}") for side in ("sparse", "dense")}
{side: sj.score(model, TASK, pairs=64) for side, model in models.items()}

# %% [markdown]
# Both models do the task. `sj.prune` trains a gate on every node, opens as few of them as the target loss allows, and removes what is
# left over. Both models get the same settings.

# %%
settings = {
    "target_loss": TARGET,
    "steps": STEPS,
    "pairs_per_step": 16,
    "train_pairs": 512,
    "validation_pairs": PAIRS,
    "test_pairs": 256,
    "k_coef": 3e-3,
    "learning_rate": 7e-3,
}
circuits = {side: sj.prune(model, TASK, **settings) for side, model in models.items()}
for side, circuit in circuits.items():
    print(f"{side:<7} {circuit}")

# %%
circuits["sparse"]

# %% [markdown]
# The dense model's circuit does the same at the same loss, but nobody could read it:

# %%
circuits["dense"]

# %% [markdown]
# ## Loss against size
#
# Every node has a score, the logit of its gate. What do the best 1, 2, 3, ... nodes of a circuit do by themselves? (Removal has already
# taken what the circuit as a whole can spare, so the loss falls late.)

# %%
import dataclasses


def best(circuit, count):
    """The circuit's `count` nodes with the highest scores, and the edges between them."""
    chosen = sorted(np.argsort([-node.score for node in circuit.nodes], kind="stable")[:count].tolist())
    place = {node: i for i, node in enumerate(chosen)}
    edges = [edge for edge in circuit.edges if edge.source in place and edge.target in place]
    edges = [
        dataclasses.replace(edge, source=place[edge.source], target=place[edge.target]) for edge in edges
    ]
    return dataclasses.replace(
        circuit,
        nodes=tuple(circuit.nodes[i] for i in chosen),
        edges=tuple(edges),
        counts={"edges": len(edges)},
    )


plt.figure(figsize=(6, 3.5))
for side, circuit in circuits.items():
    sizes = sorted({round(size) for size in np.geomspace(1, len(circuit.nodes), 12)})
    scores = [sj.score(models[side], TASK, circuit=best(circuit, size), pairs=64) for size in sizes]
    plt.plot(sizes, [score.loss for score in scores], "o-", label=side)
plt.axhline(TARGET, color="gray", linestyle=":")
plt.xscale("log")
plt.xlabel("nodes")
plt.ylabel("task loss, nats")
plt.legend()
plt.show()

# %% [markdown]
# ## A task of your own
#
# A pair is a prompt, a prompt that differs in what matters, the answer to the first, and the answer to the second. Prompts should differ in
# other ways too, so that the circuit has to find the right thing. A function of a `random.Random` in a file (`mine.py:function`) can make as
# many as you like; here they are a list. Write your own in this cell.

# %%
from random import Random

NAMES = ["items", "rows", "keys", "names", "values", "lines", "files", "words", "users", "parts", "nodes"]


def mine(random):
    """After a list comes `]`, after a tuple `)`."""
    first, second = random.sample(NAMES, 2)
    name = random.choice(["result", "found", "pair", "both"])
    return {
        "prompt": f"{name} = [{first}, {second}",
        "counterfactual": f"{name} = ({first}, {second}",
        "answer": "]",
        "wrong": ")",
    }


random = Random(0)
pairs = list({pair["prompt"]: pair for pair in (mine(random) for _ in range(2000))}.values())
own = sj.task(pairs)
print(len(pairs), "pairs;", pairs[0])
{side: sj.score(model, own, pairs=32) for side, model in models.items()}

# %%
few = {**settings, "train_pairs": 64, "validation_pairs": 32, "test_pairs": 32, "pairs_per_step": 8}
few["target_loss"] = 2 * TARGET  # the full models do not do this task as well as the built-in one
found = {side: sj.prune(model, own, **few) for side, model in models.items()}
for side, circuit in found.items():
    print(f"{side:<7} {circuit}")
    circuit.save(f"runs/my_circuit_{side}.json")

# %%
found["sparse"]

# %%
found["dense"]

# %%
sj.report(list(found.values()), "runs/my_circuits.html")  # one page with both, which needs no network
