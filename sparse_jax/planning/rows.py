"""Rows of plans in a file, all of one config: to go on with, not to mix."""

import hashlib
import json
from pathlib import Path

import jax

from sparse_jax.inputs import InputError
from sparse_jax.planning.plan import Record
from sparse_jax.training.config import RunConfig


def config_digest(config: RunConfig) -> str:
    """Twelve hexadecimal digits of a config and of the JAX that it is compiled by; a row's "config"."""
    return hashlib.sha256(f"{jax.__version__}\n{config.to_json()}".encode()).hexdigest()[:12]


def kept_rows(path: Path, config: RunConfig) -> list[Record]:
    """The rows that are in `path`; none if it is not there.

    Raises InputError naming --output if it holds something else, or rows of another config.
    """
    lines = path.read_text().splitlines() if path.exists() else []
    try:
        rows = [json.loads(line) for line in lines]
        whose = {row.get("config") for row in rows}
    except (ValueError, AttributeError):
        raise InputError(f"--output: {path} holds no rows of plans; valid: another folder") from None
    if whose - {config_digest(config)}:
        raise InputError(
            f"--output: {path} holds plans of another config, or of another JAX than {jax.__version__}; "
            "valid: another folder, or the config that they are of"
        )
    return rows
