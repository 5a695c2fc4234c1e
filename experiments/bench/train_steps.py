"""Training steps of one size in several variants, to be timed side by side."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np
import optax

from experiments.bench.timing import interleaved, matmul_gflops
from sparse_jax.model.config import ModelConfig
from sparse_jax.runtime.memory import needed_bytes
from sparse_jax.sparsity.config import SparsityConfig
from sparse_jax.training.optimizer import OptimizerConfig, sparse_optimizer
from sparse_jax.training.state import TrainState, new_state
from sparse_jax.training.step import make_train_step

UPDATES = 10_000
FRACTION = 1 / 64


@dataclasses.dataclass(frozen=True)
class Size:
    """A model and its batch."""

    d_model: int
    n_layers: int
    vocab_size: int
    context: int
    batch_size: int
    compute_dtype: str = "float32"

    def model(self, activation_fraction: float | None) -> ModelConfig:
        """With AbsTopK at all sites, or without it (None)."""
        fields = dataclasses.asdict(self)
        del fields["batch_size"]
        return ModelConfig(**fields, activation_fraction=activation_fraction)

    def sparsity(self, schedule: str) -> SparsityConfig:
        """Annealed to FRACTION, or to the least that leaves all channels their minimum of weights."""
        if schedule == "dense":
            return SparsityConfig()
        fraction = max(FRACTION, SparsityConfig.min_per_channel / self.d_model)
        return SparsityConfig(fraction=fraction, schedule=schedule, anneal_start=0.0, anneal_end=1.0)

    @property
    def useful_flop(self) -> float:
        """FLOP of a step: forward, input-gradient and weight-gradient products of all matrices and attention.

        The bigram table, lookups and all top-k are not counted.
        """
        tokens = self.batch_size * self.context
        weights = self.n_layers * 12 * self.d_model**2 + self.vocab_size * self.d_model
        attention = self.n_layers * 2 * self.context * self.d_model
        return 6.0 * tokens * (weights + attention)


SIZES = {
    "S": Size(128, 2, 512, 128, 32),
    "M": Size(256, 4, 2048, 256, 16),
    "L": Size(512, 4, 2048, 256, 8),
    "XL": Size(2048, 8, 2048, 256, 64, "bfloat16"),
}
# the activation fraction, and the schedule of the weights
VARIANTS = {
    "dense": (None, "dense"),
    "sparse": (0.25, "constant"),
    "annealing": (0.25, "linear"),
    "weights_only": (None, "constant"),
    "activations_only": (0.25, "dense"),
}


class Runner:
    """A variant's compiled step and its `state`; each call runs one update and waits for it."""

    def __init__(self, size: Size, variant: str):
        fraction, schedule = VARIANTS[variant]
        config, sparsity = size.model(fraction), size.sparsity(schedule)
        optimizer = sparse_optimizer(OptimizerConfig(), sparsity, UPDATES, frozen=config.frozen)
        state = jax.jit(lambda: new_state(config, optimizer, 0))()
        middle = np.int32(UPDATES // 2)  # of annealing
        counted = optax.tree_utils.tree_set(state.opt_state, count=middle)
        self.state = TrainState(middle, state.params, counted)
        shape = (size.batch_size, size.context + 1)
        self._tokens = np.random.default_rng(0).integers(1, size.vocab_size, shape, np.int32)
        began = time.perf_counter()
        step = jax.jit(make_train_step(config, optimizer), donate_argnums=0)
        self._step = step.lower(self.state, self._tokens).compile()
        self.compile_seconds = time.perf_counter() - began
        self.peak_bytes = needed_bytes(self._step)

    def __call__(self) -> None:
        self.state, metrics = self._step(self.state, self._tokens)
        jax.block_until_ready(self.state)
        if not metrics["finite"]:
            raise FloatingPointError("the loss is not finite")

    @property
    def text(self) -> str:
        """The compiled step's optimized HLO."""
        return self._step.as_text()


def step_rows(
    name: str, size: Size, repeats: int, peers: Mapping[str, Callable[[], object]] = {}
) -> Iterator[dict[str, object]]:
    """A row for each variant of a size: its time, its share of the speed of products, and its memory.

    The variants run alternately; times are medians of `repeats` steps.

    peers: steps of the same size by other libraries, by the library's name. They take their turns too, get
        rows without memory, and all other rows the ratio to them ("over_torch").
    """
    runners = {variant: Runner(size, variant) for variant in VARIANTS}
    speed = matmul_gflops(dtype=size.compute_dtype)[0]
    seconds, load = interleaved({**runners, **peers}, repeats)
    speed = max(speed, matmul_gflops(dtype=size.compute_dtype)[0])
    for variant, its_seconds in seconds.items():
        row = {"size": name, "variant": variant, "ms": 1e3 * its_seconds}
        row["over_dense"] = its_seconds / seconds["dense"]
        row |= {f"over_{peer}": its_seconds / seconds[peer] for peer in peers}
        row["useful_gflops"] = 1e-9 * size.useful_flop / its_seconds
        row |= {"matmul_gflops": speed, "of_matmul": row["useful_gflops"] / speed}
        if variant in runners:
            row["compile_s"] = runners[variant].compile_seconds
            row["peak_gb"] = 1e-9 * runners[variant].peak_bytes
            row["peak_over_dense"] = runners[variant].peak_bytes / runners["dense"].peak_bytes
        if variant in ("sparse", "annealing"):
            for share, without in (("projection", "activations_only"), ("abs_top_k", "weights_only")):
                row[f"{share}_share"] = 1 - seconds[without] / its_seconds
        row["foreign_load"] = load
        yield row
