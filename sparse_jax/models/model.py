"""A trained model as one value, independent of its file format."""

import dataclasses
import functools
import hashlib
import html
from collections.abc import Mapping

import numpy as np
from tokenizers import Tokenizer

from sparse_jax.data.tokenizer import check_fits
from sparse_jax.inputs import InputError
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params
from sparse_jax.model.sites import EDGE_MATRICES
from sparse_jax.phrases import counted
from sparse_jax.trees import named_leaves

# Fields of a config that change how a model is computed, and not what.
_NO_NUMBERS = ("unroll", "remat")


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """Config, parameters and tokenizer of a trained model.

    tokenizer: None if there is none; such a model can be converted, and run on token ids. origin: where it
    was read from, for display. run: the config of its training run, as read from JSON; None if it was trained
    elsewhere. special_tokens: the tokens that begin and end a text, as the directory that it was read from
    names them (see `tokenizer_files.read_special_tokens`); empty if it was trained here. control: what it is,
    if it was made from another model as a control of it (`models/control_models.py`).

    Raises InputError for a tokenizer that does not fit: one with ids past the model's vocabulary, or one that
    truncates or pads.
    """

    config: ModelConfig
    params: Params
    tokenizer: Tokenizer | None = None
    origin: str = "memory"
    run: Mapping[str, Mapping[str, object]] | None = None
    special_tokens: Mapping[str, object] = dataclasses.field(default_factory=dict)
    control: str = ""

    def __post_init__(self) -> None:
        if self.tokenizer is not None:
            check_fits(self.tokenizer, self.config.vocab_size)
            if self.tokenizer.truncation is not None or self.tokenizer.padding is not None:
                raise InputError(
                    "tokenizer: it truncates or pads texts; valid: one after no_truncation() and no_padding()"
                )

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of the architecture and all weights, which identifies the model in stored results."""
        return fingerprint(self.config, self.params)

    @functools.cached_property
    def facts(self) -> dict[str, str]:
        """A short description for display, by name."""
        leaves = named_leaves(self.params).values()
        size = sum(int(np.prod(leaf.shape)) for leaf in leaves)
        nonzero = sum(int(np.count_nonzero(leaf)) for leaf in leaves)
        config = self.config
        layers, heads = counted(config.n_layers, "layer"), counted(config.n_heads, "head")
        return {
            "architecture": f"{layers}, {config.d_model} wide, {heads}, vocabulary {config.vocab_size:,}, "
            f"context {config.context}",
            "parameters": f"{size:,}",
            "L0": f"{nonzero:,} ({100 * nonzero / size:.1f} %)",
            "origin": self.origin,
            "fingerprint": self.fingerprint,
            **({"control": self.control or "trained on shuffled text"} if self.is_control else {}),
        }

    @property
    def kind(self) -> str:
        """ "sparse" if any weight between two nodes is zero, else "dense"; AbsTopK does not count."""
        matrices = {f"layers/{sublayer}/{matrix}/kernel" for _, _, sublayer, matrix in EDGE_MATRICES}
        leaves = named_leaves(self.params).items()
        return "sparse" if any((leaf == 0).any() for name, leaf in leaves if name in matrices) else "dense"

    @property
    def is_control(self) -> bool:
        """Whether it is one of random weights, or was trained on shuffled text: it can do no task."""
        data = (self.run or {}).get("data", {})
        return bool(self.control or data.get("shuffled"))

    def __repr__(self) -> str:
        return f"Model({', '.join(f'{name}: {value}' for name, value in self.facts.items())})"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{n}</th><td>{html.escape(v)}</td></tr>" for n, v in self.facts.items())
        return f"<table>{rows}</table>"

    def require_tokenizer(self) -> Tokenizer:
        """The tokenizer. Raises InputError if there is none."""
        if self.tokenizer is None:
            raise InputError(f"model: {self.origin} has no tokenizer.json; valid: a model with its tokenizer")
        return self.tokenizer


def fingerprint(config: ModelConfig, params: Params) -> str:
    """Identifies a model by its content, wherever it is kept: 16 hexadecimal digits."""
    fields = {n: v for n, v in sorted(config.told.items()) if n not in _NO_NUMBERS}
    digest = hashlib.blake2b(repr(fields).encode(), digest_size=8)
    for name, leaf in named_leaves(params).items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
