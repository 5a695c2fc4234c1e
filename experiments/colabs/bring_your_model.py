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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/sparse-jax/sparse_jax/blob/main/experiments/colabs/bring_your_model.ipynb)
#
# # Bring your model
#
# `sj.load` takes a directory and finds out what is in it: a run of this project, a released weight-sparse PyTorch model, or a Hugging Face
# GPT-2. Everything else (tasks, pruning, scorecards) is then the same. A few minutes on a Colab CPU.

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
GPT2 = "openai-community/gpt2"  # fetched where the network allows it, else a small GPT-2 is made here
STEPS = 300  # of that small one

# %%
import shutil
import warnings

import jax

import sparse_jax as sj

jax.config.update("jax_default_matmul_precision", "highest")  # GPUs and TPUs would round what they multiply
model = sj.load("experiments/results/small/sparse")
model

# %% [markdown]
# ## Out, and in again
#
# The layout of the released weight-sparse models ("openai"), with other names and transposed matrices, and written without PyTorch. What
# comes back is the same model, which its fingerprint shows.

# %%
shutil.rmtree("runs/released", ignore_errors=True)
sj.save(model, "runs/released", format="openai")
again = sj.load("runs/released")
print(sorted(path.name for path in Path("runs/released").rglob("*") if path.is_file()))
print("the same:", again.fingerprint == model.fingerprint)

# %% [markdown]
# ## A circuit, exported
#
# A circuit is a file of nodes and edges that finds its model by fingerprint. From it come a program to read, a small model with its
# logits (before their calibration) that needs nothing else, and the attribution graph of a prompt for the viewers of circuit-tracer and
# Neuronpedia.

# %%
FILE = "experiments/results/faithfulness/circuits/sparse/mean/single_double_quote.json"
circuit = sj.load_circuit(FILE, again)  # of the model that was exported and read again
circuit.save("runs/quotes.json")
print("the same:", sj.load_circuit("runs/quotes.json", model) == circuit)
print(circuit.code(model))

# %%
shutil.rmtree("runs/quotes", ignore_errors=True)
circuit.compact(model).save("runs/quotes")
small = sj.load_compact("runs/quotes", of=circuit)
prompt = "print('abc"
logits, _ = sj.run(model, prompt, circuit=circuit)
alone = small.forward([model.tokenizer.encode(prompt).ids])
answers = small.outputs  # all tokens that the small model has logits of
for name, found in (("in the model", [logits[0, -1, token] for token in answers]), ("alone", alone[0, -1])):
    _, best = max(zip(map(float, found), answers))
    print(f"{name:<14}{model.tokenizer.decode([best])!r}")
small

# %%
export = [sys.executable, "-m", "experiments.export", "--model=experiments/results/small/sparse"]
export += [f"--circuit={FILE}", "--format=circuit-tracer", "--output=runs/quotes_graph.json"]
exported = subprocess.run(export, check=True)
print(Path("runs/quotes_graph.json").read_text()[:400])

# %% [markdown]
# ## A released circuit
#
# `sj.load_circuit` also opens what was released beside the weight-sparse PyTorch models: a `viz_data.pt`, or a list of nodes beside a
# list of edges. Here is such a list, written by hand: a path of the circuit above, under the names of the release.

# %%
Path("runs/path_nodes.txt").write_text("0.attn.act_in:49 0.attn.v:161 0.attn.resid_delta:128\n")
edges = ["0.attn.act_in:49,0.attn.v:161,0.4", "0.attn.v:161,0.attn.resid_delta:128,1.5"]
Path("runs/path_edges.csv").write_text("\n".join(["source,target,value", *edges, ""]))
sj.load_circuit("runs/path_nodes.txt", model)

# %% [markdown]
# ## A GPT-2
#
# Its layer norms, learned positions and tied embedding are read as they are; dropout is not, since it does nothing outside of training.


# %%
def fetched():
    """GPT-2 from the Hugging Face hub, if it can be had."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where there are no widgets for its progress bars
            from huggingface_hub import snapshot_download

        wanted = ["config.json", "model.safetensors", "tokenizer.json"]
        folder = snapshot_download(GPT2, allow_patterns=wanted)
    except Exception as error:
        print(f"{GPT2} cannot be fetched here ({type(error).__name__}); a small GPT-2 is made instead")
        return None
    return sj.load(folder)


def made():
    """A small model of GPT-2's architecture, trained for a moment, through Hugging Face's format."""
    like = {
        "norm": "layer",
        "tied_embedding": True,
        "positions": "added",
        "attention_sink": False,
        "bigram": "none",
        "activation": "gelu_tanh",
        "activation_fraction": None,
    }
    for folder in ("runs/small_gpt2", "runs/small_gpt2_hf"):
        shutil.rmtree(folder, ignore_errors=True)
    small = sj.train(sj.presets.tiny(kind="dense", **like, **{"training.steps": STEPS}), "runs/small_gpt2")
    sj.save(small, "runs/small_gpt2_hf", format="hf")
    return sj.load("runs/small_gpt2_hf")


gpt2 = fetched() or made()
gpt2

# %%
print(sj.generate(gpt2, "for item in", tokens=20, temperature=0))

# %% [markdown]
# Captures, ablations, patches and additions work on it as on any other model. Here is what it would say without the hidden neurons of
# its first layer.

# %%
logits, acts = sj.run(gpt2, "for item in", capture=("mlp_neuron", "pattern"))
without, _ = sj.run(gpt2, "for item in", ablate={"0.mlp_neuron": "zero"})
for name, values in (("as it is", logits), ("without", without)):
    print(f"{name:<10}{gpt2.tokenizer.decode([int(values[0, -1].argmax())])!r}")
{site: values.shape for site, values in acts.items()}

# %% [markdown]
# ## What is not possible, and why
#
# - **Other architectures.** Rotary positions, grouped keys, gated MLPs and mixtures of experts compute something else than this model's
#   `forward`, so `sj.load` refuses them and names the field that it cannot take.
# - **Pruning a model whose training text is unknown.** Closed nodes carry averages over that text, so a model trained elsewhere has to
#   bring them (`means_128.npz` in its directory); the cell below shows what is said otherwise.
# - **Models without a tokenizer.** They run on token ids; tasks are text, so scores and pruning are refused.
# - **Exact equality with PyTorch.** Sums are taken in another order: logits agree to about 1e-4 in float32.

# %%
for wrong in (lambda: sj.prune(gpt2, "for_while"), lambda: sj.load("experiments/results/plan")):
    try:
        wrong()
    except sj.InputError as error:
        print("refused:", error)
