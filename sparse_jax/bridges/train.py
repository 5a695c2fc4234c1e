"""Trains bridges between a sparse model and a frozen dense one."""

import dataclasses
import json
import os

import jax

from sparse_jax.bridges.config import BridgeRun
from sparse_jax.bridges.maps import Bridges, check_bridges
from sparse_jax.bridges.program import bridge_program
from sparse_jax.data.corpus import prepare
from sparse_jax.inputs import InputError, require
from sparse_jax.models.model import Model
from sparse_jax.training.loop import run_program


@dataclasses.dataclass(frozen=True, eq=False)
class BridgedPair:
    """A sparse and a dense model, and the bridges between their residual streams.

    kept: how many channels an encoder keeps. Raises InputError for models that cannot be bridged, and for
    bridges that do not fit them.
    """

    sparse: Model
    dense: Model
    bridges: Bridges
    kept: int

    def __post_init__(self) -> None:
        check_pair_of_models(self.sparse, self.dense)
        check_bridges(self.bridges, self.sparse.config, self.dense.config)


def train_bridges(
    config: BridgeRun,
    dense: Model,
    workdir: str | os.PathLike,
    start: Model | None = None,
    label: str = "bridges",
) -> BridgedPair:
    """Trains bridges, and the sparse model with them, or resumes the run in `workdir`; see `train`.

    dense: stays as it is. start: the model that the sparse one starts from, with the config `config.model`;
    None for a fresh one. Checkpoints, metrics, stops and several processes are as in `train`; rows of an
    evaluation also have every term of the loss as "bridges/<term>".

    Raises InputError as `train` does, and for models that differ in vocabulary, tokenizer or number of
    layers, or a dense model with a shorter context.
    """
    started = "" if start is None else start.fingerprint
    settings = dataclasses.replace(config.bridges, dense=dense.fingerprint, sparse=started)
    config = dataclasses.replace(config, bridges=settings)
    if start is not None and start.config != config.model:
        raise InputError(f"model: {config.model} is not that of {start.origin}; valid: {start.config}")
    frozen = start is None and not config.bridges.train_sparse
    require(not frozen, "bridges.train_sparse", False, "True for a sparse model without a start")
    tokenizer = prepare(config.data, config.model.vocab_size).tokenizer
    check_pair_of_models(Model(config.model, {}, tokenizer, "the sparse model"), dense)

    def make(config: BridgeRun):
        return bridge_program(config, dense, start)

    step, params, tokenizer = run_program(config, make, workdir, label)
    params = jax.device_put(params, jax.local_devices()[0])
    run = {name: value for name, value in json.loads(config.to_json()).items() if name != "bridges"}
    sparse = Model(config.model, params["sparse"], tokenizer, f"{workdir} at step {step}", run)
    return BridgedPair(sparse, dense, params["bridges"], config.bridges.kept(config.model))


def check_pair_of_models(sparse: Model, dense: Model) -> None:
    """Raises InputError unless bridges can lead from each model to the other."""
    one, other = sparse.config, dense.config
    where = f"dense model {dense.origin}"
    require(other.vocab_size == one.vocab_size, f"{where}: vocab_size", other.vocab_size, f"{one.vocab_size}")
    require(other.n_layers == one.n_layers, f"{where}: n_layers", other.n_layers, f"{one.n_layers}")
    require(other.context >= one.context, f"{where}: context", other.context, f"at least {one.context}")
    if dense.require_tokenizer().to_str() != sparse.require_tokenizer().to_str():
        raise InputError(f"{where}: its tokenizer is not that of {sparse.origin}; valid: the same tokenizer")
