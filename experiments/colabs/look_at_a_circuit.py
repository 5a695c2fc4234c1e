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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/sparse-jax/sparse_jax/blob/main/experiments/colabs/look_at_a_circuit.ipynb)
#
# # Look at a circuit
#
# A transformer with two layers predicts what follows a variable that was set to `set()` or to `""` lines before: `.add`, or ` +=`. All but
# 1/64 of its weights are zero, so the part of it that does this is small enough to read. Here you run a prompt through the full
# model and through that part alone, look at the picture, break single connections to see the answer flip, and read its code. Then you test
# what a node of another part means, the one that closes strings. The first result comes at once, all of them within some minutes on a CPU.

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
TASK, READ = "set_or_string_fixedvarname", "single_double_quote"
CIRCUITS = "experiments/results/faithfulness/circuits"
PAIRS = 128

# %%
import dataclasses

import jax

import sparse_jax as sj

jax.config.update("jax_default_matmul_precision", "highest")  # GPUs and TPUs would round what they multiply
models = {side: sj.load(f"experiments/results/small/{side}") for side in ("sparse", "dense")}
{side: sj.score(model, TASK, pairs=64) for side, model in models.items()}

# %% [markdown]
# The two predict text equally well, and both do the task. The second has all of its weights.
#
# ## The circuit
#
# A *node* is one channel: of what a layer reads from the residual stream (`attn_in`, `mlp_in`), of a query, key or value, of a hidden
# neuron, or of what a layer writes (`attn_out`, `mlp_out`). An *edge* is a weight between two of them that is not zero. Everything
# that is not in the picture is fixed to its average over training text.

# %%
circuits = {
    side: sj.load_circuit(f"{CIRCUITS}/{side}/mean/{TASK}.json", model) for side, model in models.items()
}
for side, one in circuits.items():
    print(f"{side:<7} {one}")

# %% [markdown]
# At the same loss, the dense model's circuit has forty times as many edges. From here on, it is the sparse model's that you look at.

# %%
model, circuit = models["sparse"], circuits["sparse"]
circuit

# %% [markdown]
# ## A prompt and its counterfactual
#
# Every task is made of pairs: two prompts that differ in as little as possible, with different right answers.

# %%
pair = sj.task(TASK).pairs("test", 1, seed=0)[0]
print("prompt         ", repr(pair.prompt), "->", repr(pair.answer))
print("counterfactual ", repr(pair.counterfactual), "->", repr(pair.wrong))

# %%
answer, wrong = (model.tokenizer.encode(text).ids[0] for text in (pair.answer, pair.wrong))


def share_of_answer(prompt, circuit=None):
    """The probability of the prompt's answer, against that of the counterfactual's."""
    logits, _ = sj.run(model, prompt, circuit=circuit)
    return float(jax.nn.sigmoid(logits[0, -1, answer] - logits[0, -1, wrong]))


for name, part in (("full model", None), ("circuit alone", circuit)):
    shares = [share_of_answer(prompt, part) for prompt in (pair.prompt, pair.counterfactual)]
    print(f"{name:<14} P({pair.answer!r}): prompt {shares[0]:.3f}, counterfactual {shares[1]:.3f}")

# %% [markdown]
# ## What the nodes carry
#
# The values of the circuit's nodes at the last token, for both prompts. Where the two columns differ, the node knows which of the two it was.

# %%
sites = tuple(dict.fromkeys(node.site for node in circuit.nodes))
values = [
    sj.run(model, prompt, circuit=circuit, capture=sites)[1] for prompt in (pair.prompt, pair.counterfactual)
]
for node in circuit.nodes:
    first, second = (float(found[node.site][node.layer, 0, -1, node.index]) for found in values)
    print(
        f"{node.name:<18} {first:>8.2f} {second:>8.2f}{'   <- differs' if abs(first - second) > 0.2 else ''}"
    )

# %% [markdown]
# ## Break one edge
#
# Without one of its edges, what does the circuit answer? A closed edge carries the average of its source. `1.0` is a sure right answer
# to both prompts, `0.0` a sure wrong one, `0.5` is a guess.


# %%
def without(edge):
    """The circuit with one edge less."""
    left = tuple(one for one in circuit.edges if one is not edge)
    return dataclasses.replace(circuit, edges=left, edge_gated=True)


for edge in circuit.edges:
    broken = without(edge)
    right = share_of_answer(pair.prompt, broken), 1 - share_of_answer(pair.counterfactual, broken)
    source, target = circuit.nodes[edge.source].name, circuit.nodes[edge.target].name
    says = f"{source:>16} -> {target:<16} weight {edge.weight:>6.2f}"
    print(f"{says}  right: {right[0]:.2f} {right[1]:.2f}{'   <- flips' if min(right) < 0.5 else ''}")

# %% [markdown]
# ## Read its code
#
# The circuit as a program: a variable for each node, what excites it, and what reads it. `read` looks up what the embedding adds at
# each token, `np.interp` what it adds at each position. Whatever the answers to 512 test prompts do not need has been left out; up to
# 2 % of them may change, which makes it shorter.

# %%
code = circuit.code(model, tolerance=0.02)
print(code)

# %% [markdown]
# A circuit that does not depend on positions reads better. This one decides how a string ends that began with `('` or `("`.

# %%
quotes = sj.load_circuit(f"{CIRCUITS}/sparse/mean/{READ}.json", model)
print(quotes.code(model))

# %% [markdown]
# ## Is it what you think it is?
#
# A hypothesis about a node can be tested: replace the node by two values, one where the hypothesis says yes and one where it says no. If the
# loss stays where it was, the node does no more than that. (`sj.explain(model, quotes, READ)` looks for such sentences by itself, in the
# model's training text.)

# %%
for says in ("inside a '...' string", "inside a string", "position below 16"):
    print(sj.test_hypothesis(model, quotes, "0.attn_out.148", says, READ, pairs=PAIRS))

# %% [markdown]
# ## In an interactive page
#
# The first circuit with the tokens that excite each node and the logits that it moves, what it carries on prompts, and the loss without
# it. Hover over a node. (`sj.findings` gives all of this with a scorecard, which takes some minutes more.)

# %%
sj.view(
    circuit,
    meanings=sj.explain(model, circuit, TASK),
    traces=sj.trace(model, circuit, TASK, pairs=3),
    contributions=sj.contributions(model, circuit, TASK),
    code=code,
)
