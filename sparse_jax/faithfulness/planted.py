"""Models whose weights are written by hand, so that their circuits are known.

All of them have one shape (`CONFIG`), so they share their compiled programs. The first channel of the
residual stream is the level: every token's embedding has LEVEL there, no matrix reads it and the gain of
every norm is LEVEL / sqrt(d_model). An RMSNorm then divides x by sqrt(1 + |rest of x|^2 / LEVEL^2), which is
1 but for less than a percent, so a weight between two channels means what it says.

The true circuit is defined under mean ablation over the program's own prompts: it consists of the wires that
the program needs and the nodes at their ends. A node with the same value at every token, such as a query that
comes from a bias, is not part of it, since its mean replaces it; but channel i of q and of k share a gate, so
a needed key brings its query along.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from sparse_jax.ablation.judge import Judge
from sparse_jax.circuits.applied import values_hash
from sparse_jax.circuits.edges import find_edges, kept_nodes
from sparse_jax.circuits.gates import Gates
from sparse_jax.circuits.graph import Circuit
from sparse_jax.data.tokenizer import END_OF_TEXT
from sparse_jax.inputs import require, require_choice
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, param_shapes
from sparse_jax.models.means import node_means
from sparse_jax.models.model import Model
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.own import FileTask
from sparse_jax.trees import map_named, named_leaves

SYMBOLS = ".,;?abcdpqrsyn()AB12+-\"'!"
CONFIG = ModelConfig(
    vocab_size=32,
    context=8,
    n_layers=2,
    d_model=12,
    d_mlp=4,
    d_head=2,
    n_heads=2,
    activation="relu",
    positions="added",
    bigram="none",
    activation_fraction=None,
)
LEVEL = 100.0
# A head's score of a match; its sink lies half way, so a head without a match attends to nothing.
SCORE = 8.0
SINK = SCORE / 2
# The logit difference of an answer is twice this: a loss of 0.003 nats.
ANSWER = 3.0
# The task loss in nats below which a circuit does its task (METHOD 6).
TARGET = 0.15
# Numbers of pairs of the splits.
PAIRS = {"train": 192, "validation": 96, "test": 96}

# A node: layer, site, channel.
Place = tuple[int, str, int]


class Wire(NamedTuple):
    """One weight: into channel `target` of site `to` from channel `source` of the site that it is made of.

    Channels of the residual stream are given by name, those of heads and neurons by number.
    """

    layer: int
    to: str
    source: int | str
    target: int | str
    weight: float


@dataclasses.dataclass(frozen=True)
class Blueprint:
    """Everything that is not zero in a hand-written model.

    channels: names of the residual channels after the level. embedding: by symbol, values of channels.
    circuit: the wires that the program needs; others: those it does not. unembedding: by channel, weights to
    symbols. positions: by channel, what is added at each of the 8 positions. biases: by layer, site and
    channel. sinks: by layer and head. offsets: biases of the logits, by symbol.

    Raises InputError for more channels than CONFIG has; `params_of` does for names that are unknown.
    """

    channels: tuple[str, ...]
    embedding: Mapping[str, Mapping[str, float]]
    circuit: tuple[Wire, ...]
    unembedding: Mapping[str, Mapping[str, float]]
    others: tuple[Wire, ...] = ()
    positions: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    biases: Mapping[tuple[int, str, int | str], float] = dataclasses.field(default_factory=dict)
    sinks: Mapping[tuple[int, int], float] = dataclasses.field(default_factory=dict)
    offsets: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        most = CONFIG.d_model - 1
        require(len(self.channels) <= most, "channels", len(self.channels), f"at most {most}")

    def channel(self, given: int | str) -> int:
        """The number of a channel."""
        if isinstance(given, int):
            return given
        require_choice("channel", given, self.channels)
        return 1 + self.channels.index(given)

    def edge(self, wire: Wire) -> tuple[Place, Place]:
        """The two nodes that a wire connects."""
        sources = {target: source for source, target, _, _ in sites.EDGE_MATRICES}
        require_choice("wire.to", wire.to, sources)
        source = sources[wire.to]
        ends = self.channel(wire.source), self.channel(wire.target)
        return (wire.layer, source, ends[0]), (wire.layer, wire.to, ends[1])


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A model, a task that it does, and the edges of its true circuit, each as a pair of nodes."""

    name: str
    model: Model
    task: FileTask
    edges: frozenset[tuple[Place, Place]]

    @functools.cached_property
    def nodes(self) -> frozenset[Place]:
        """The nodes of the true circuit: the ends of its edges, and the query of every key among them."""
        ends = {place for edge in self.edges for place in edge}
        return frozenset(ends | {(layer, "q", i) for layer, site, i in ends if site == "k"})

    @functools.cached_property
    def values(self) -> Gates:
        """The mean of every node over the prompts of the training split: what closed nodes carry."""
        tokens = self.pairs("train").tokens
        return node_means(self.model.config, self.model.params, tokens.reshape(-1, tokens.shape[-1]))

    def pairs(self, split: str) -> EncodedPairs:
        """The pairs of a split, encoded."""
        model = self.model
        return self.task.encode(split, PAIRS[split], 0, model.require_tokenizer(), model.config.context)

    def judge(self, split: str = "validation") -> Judge:
        """A judge of the model's circuits."""
        return Judge(self.model.config, self.model.params, self.values, self.pairs(split))

    def loss(self, gates: Gates | None = None, split: str = "validation") -> float:
        """The task loss in nats under these gates, everything else ablated to its mean."""
        return float(self.judge(split).losses(gates or {}).mean())

    def masks(self) -> dict[str, np.ndarray]:
        """1 at the nodes [L, N] and at the edges [L, Din, Dout] of the true circuit, by site and by edge."""
        config = self.model.config
        shapes = {**sites.node_shapes(config, sites.LAYER_SITES), **sites.edge_shapes(config)}
        masks = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        for layer, site, i in self.nodes:
            masks[site][layer, i] = 1
        for (layer, source, i), (_, target, j) in self.edges:
            masks[sites.edge_key(source, target)][layer, i, j] = 1
        return masks

    @functools.cached_property
    def truth(self) -> Circuit:
        """The true circuit. Of the edges between its nodes, those that it does not need are closed."""
        masks, model = self.masks(), self.model
        nodes = {site: masks[site] for site in sites.LAYER_SITES}
        kept = kept_nodes(nodes, self.values, nodes, model.config.n_layers)
        edges = find_edges(model.params, kept, masks)
        about = {
            "task": self.name,
            "model": model.origin,
            "weights": model.fingerprint,
            "values": values_hash({site: np.asarray(mean) for site, mean in self.values.items()}),
        }
        counts = {"nodes": len(kept), "edges": len(edges)}
        return Circuit(kept, edges, sites.LAYER_SITES, counts, {"target": TARGET}, {}, about, edge_gated=True)


def build(name: str, plan: Blueprint, task: FileTask) -> Program:
    """The program of a blueprint."""
    edges = frozenset(plan.edge(wire) for wire in plan.circuit)
    return Program(name, Model(CONFIG, params_of(plan), tokenizer(), name), task, edges)


@functools.cache
def tokenizer() -> Tokenizer:
    """A token for every symbol, and the end of text."""
    words = {END_OF_TEXT: 0, **{symbol: i for i, symbol in enumerate(SYMBOLS, start=1)}}
    made = Tokenizer(models.WordLevel(words, unk_token=END_OF_TEXT))
    made.decoder = decoders.Fuse()
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return made


def params_of(plan: Blueprint) -> Params:
    """The parameters of a blueprint; what it does not name is 0. Raises InputError for an unknown name."""
    leaves = zero_leaves(CONFIG)
    leaves["embed/kernel"][:, 0] = LEVEL
    for symbol, values in plan.embedding.items():
        for name, value in values.items():
            leaves["embed/kernel"][_id(symbol), plan.channel(name)] = value
    for name, values_T in plan.positions.items():
        leaves["position/kernel"][:, plan.channel(name)] = values_T
    for name, weights in plan.unembedding.items():
        for symbol, weight in weights.items():
            leaves["unembed/kernel"][plan.channel(name), _id(symbol)] = weight
    for symbol, offset in plan.offsets.items():
        leaves["logit_bias"][_id(symbol)] = offset
    for wire in (*plan.circuit, *plan.others):
        (layer, _, source), (_, _, target) = plan.edge(wire)
        leaves[f"{_matrix(wire.to)}/kernel"][layer, source, target] = wire.weight
    for (layer, site, channel), bias in plan.biases.items():
        leaves[f"{_matrix(site)}/bias"][layer, plan.channel(channel)] = bias
    for (layer, head), sink in plan.sinks.items():
        leaves["layers/attn/sink"][layer, head] = sink
    return tree_of(CONFIG, leaves)


def _id(symbol: str) -> int:
    require_choice("symbol", symbol, SYMBOLS)
    return 1 + SYMBOLS.index(symbol)


def _matrix(site: str) -> str:
    sublayer, matrix = next(found for _, target, *found in sites.EDGE_MATRICES if target == site)
    return f"layers/{sublayer}/{matrix}"


def zero_leaves(config: ModelConfig) -> dict[str, np.ndarray]:
    """All leaves by name, at 0; gains of norms as the level needs them."""
    shapes = named_leaves(param_shapes(config))
    leaves = {name: np.zeros(leaf.shape, np.float32) for name, leaf in shapes.items()}
    for name in leaves:
        if name.endswith("norm/scale"):
            leaves[name][:] = LEVEL / config.d_model**0.5
    return leaves


def tree_of(config: ModelConfig, leaves: Mapping[str, np.ndarray]) -> Params:
    """Parameters of leaves by name."""
    return map_named(lambda name, _: jnp.asarray(leaves[name]), param_shapes(config))
