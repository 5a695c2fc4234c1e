"""What every format here is read into and written from."""

import dataclasses
from pathlib import Path

from tokenizers import Tokenizer

from sparse_jax.data.tokenizer import load_tokenizer, save_tokenizer
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params

TOKENIZER = "tokenizer.json"


@dataclasses.dataclass(frozen=True)
class Model:
    """A model on its way from one format to another; the tokenizer is None where none was given."""

    config: ModelConfig
    params: Params
    tokenizer: Tokenizer | None = None


def read_tokenizer(directory: Path) -> Tokenizer | None:
    """What `tokenizer.json` there holds, if there is one. Raises InputError for a damaged one."""
    path = directory / TOKENIZER
    return load_tokenizer(path) if path.exists() else None


def write_tokenizer(tokenizer: Tokenizer | None, directory: Path) -> None:
    """Puts it beside a model, if there is one."""
    if tokenizer is not None:
        save_tokenizer(tokenizer, directory / TOKENIZER)
