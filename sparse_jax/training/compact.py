"""A trained model as a small folder: its weights as safetensors, config and tokenizer beside them."""

import json
import os
from pathlib import Path

from tokenizers import Tokenizer

from sparse_jax.files import write_whole
from sparse_jax.inputs import InputError
from sparse_jax.interop.safetensors_model import pack_weights, read_weights
from sparse_jax.model.forward import Params
from sparse_jax.training.config import RunConfig, run_config

WEIGHTS, CONFIG, TOKENIZER = "weights.safetensors", "config.json", "tokenizer.json"


def save_compact(
    params: Params,
    run: RunConfig,
    tokenizer: Tokenizer | None,
    directory: str | os.PathLike,
    dense: bool = False,
) -> None:
    """Writes a model of `run` that `read_compact` gives back exactly, each file whole or not at all.

    dense: all weights, not only the nonzero ones; larger, but any reader of safetensors can use them.
    """
    directory = Path(directory)
    write_whole(directory / CONFIG, run.to_json())
    if tokenizer is not None:
        write_whole(directory / TOKENIZER, tokenizer.to_str())
    write_whole(directory / WEIGHTS, pack_weights(params, dense))


def is_compact(directory: str | os.PathLike) -> bool:
    """Whether `save_compact` wrote there."""
    return (Path(directory) / WEIGHTS).is_file()


def read_compact(directory: str | os.PathLike) -> tuple[RunConfig, Tokenizer | None, Params]:
    """What `save_compact` wrote. Raises InputError for a missing, damaged or foreign file."""
    directory = Path(directory)
    run = run_config(json.loads(_text(directory / CONFIG)))
    return run, _tokenizer(directory / TOKENIZER), read_weights(directory / WEIGHTS, run.model)


def _tokenizer(path: Path) -> Tokenizer | None:
    if not path.exists():
        return None
    try:
        return Tokenizer.from_str(_text(path))
    except InputError:
        raise
    except Exception as error:  # the library raises bare Exceptions
        raise InputError(f"model: {path} is no tokenizer ({error})") from None


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
        json.loads(text)
    except (OSError, ValueError) as error:
        raise InputError(
            f"model: {path} cannot be read ({error}); valid: a folder that sparse_jax wrote"
        ) from None
    return text
