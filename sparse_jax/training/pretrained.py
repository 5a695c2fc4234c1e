"""A trained model as its users need it: config, parameters and tokenizer."""

import dataclasses
import os
from pathlib import Path

import jax
from tokenizers import Tokenizer

from sparse_jax.inputs import InputError
from sparse_jax.interop.model import TOKENIZER
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params
from sparse_jax.training.checkpoint import read_params, read_run
from sparse_jax.training.compact import is_compact, read_compact
from sparse_jax.training.config import RunConfig


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A model with what it was trained on; `origin` says where it came from."""

    config: ModelConfig
    params: Params
    tokenizer: Tokenizer
    run: RunConfig
    origin: str


def load_pretrained(workdir: str | os.PathLike) -> Pretrained:
    """The newest checkpoint of a training run, or a model that `save_compact` wrote.

    Raises InputError if there is none or it is damaged.
    """
    if is_compact(workdir):
        run, tokenizer, params = read_compact(workdir)
        if tokenizer is None:
            raise InputError(f"model: {workdir} has no {TOKENIZER}; valid: a model with its tokenizer")
        return Pretrained(run.model, jax.device_put(params), tokenizer, run, str(workdir))
    run, tokenizer, step = read_run(Path(workdir))
    params = read_params(Path(workdir), run.model, step)
    return Pretrained(run.model, params, tokenizer, run, f"{workdir} at step {step}")
