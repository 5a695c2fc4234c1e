"""Hugging Face's GPT-2 as our dense configuration: what its fields and its tensors are called there."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from sparse_jax.inputs import require, require_choice
from sparse_jax.model.config import ModelConfig
from sparse_jax.models.leaves import Given, Row, Source, drop_copy, places, read_leaves, write_leaves
from sparse_jax.models.model import Model
from sparse_jax.trees import named_leaves

ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}
# Other values of these make another function of the same tensors.
FIXED = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "layer_norm_epsilon": 1e-5,
}
PREFIX = "transformer."
EMBEDDING, UNEMBEDDING, LOGIT_BIAS = "wte.weight", "lm_head.weight", "logit_bias"
MASKS = (".attn.bias", ".attn.masked_bias")

_QKV = ("layers/attn/q", "layers/attn/k", "layers/attn/v")
ROWS = (
    Row(EMBEDDING, ("embed/kernel",)),
    Row("wpe.weight", ("position/kernel",)),
    Row("h.{layer}.ln_1.weight", ("layers/attn/norm/scale",)),
    Row("h.{layer}.ln_1.bias", ("layers/attn/norm/bias",)),
    Row("h.{layer}.attn.c_attn.weight", tuple(f"{name}/kernel" for name in _QKV)),
    Row("h.{layer}.attn.c_attn.bias", tuple(f"{name}/bias" for name in _QKV)),
    Row("h.{layer}.attn.c_proj.weight", ("layers/attn/out/kernel",)),
    Row("h.{layer}.attn.c_proj.bias", ("layers/attn/out/bias",)),
    Row("h.{layer}.ln_2.weight", ("layers/mlp/norm/scale",)),
    Row("h.{layer}.ln_2.bias", ("layers/mlp/norm/bias",)),
    Row("h.{layer}.mlp.c_fc.weight", ("layers/mlp/up/kernel",)),
    Row("h.{layer}.mlp.c_fc.bias", ("layers/mlp/up/bias",)),
    Row("h.{layer}.mlp.c_proj.weight", ("layers/mlp/down/kernel",)),
    Row("h.{layer}.mlp.c_proj.bias", ("layers/mlp/down/bias",)),
    Row("ln_f.weight", ("final_norm/scale",)),
    Row("ln_f.bias", ("final_norm/bias",)),
    Row(UNEMBEDDING, ("unembed/kernel",), transposed=True),
    Row(LOGIT_BIAS, ("logit_bias",)),  # never in a file: GPT-2 has none
)


def read_gpt2(fields: Mapping[str, Any], tensors: Mapping[str, Source], origin: object) -> Model:
    """The model of a `config.json` and of tensors by name, with or without "transformer." in front.

    Raises InputError naming the field or the tensor that is missing, left over, wrong or not supported.
    """
    config = _config(fields)
    found: dict[str, Source] = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    found = {name: tensor for name, tensor in found.items() if not name.endswith(MASKS)}
    require(LOGIT_BIAS not in found, f"{origin}: tensor", LOGIT_BIAS, "those of GPT-2")
    if config.tied_embedding:
        drop_copy(found, UNEMBEDDING, EMBEDDING, origin)
    found[LOGIT_BIAS] = Given(np.zeros(config.vocab_size, np.float32))
    return Model(config, read_leaves(found, places(ROWS, config), config, origin))


def _config(fields: Mapping[str, Any]) -> ModelConfig:
    for name, value in FIXED.items():
        require(fields.get(name, value) == value, f"config.{name}", fields.get(name), repr(value))
    activation = fields.get("activation_function", "gelu_new")
    require_choice("config.activation_function", activation, ACTIVATIONS)
    sizes: dict[str, Any] = {
        name: fields.get(name) for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")
    }
    if fields.get("n_inner") is not None:
        sizes["n_inner"] = fields["n_inner"]
    for name, value in sizes.items():
        require(type(value) is int and value >= 1, f"config.{name}", value, "a whole number from 1")
    width, heads = sizes["n_embd"], sizes["n_head"]
    require(width % heads == 0, "config.n_head", heads, f"a divisor of n_embd {width}")
    return ModelConfig(
        vocab_size=sizes["vocab_size"],
        context=sizes["n_positions"],
        n_layers=sizes["n_layer"],
        d_model=width,
        d_mlp=sizes.get("n_inner", 0),
        d_head=width // heads,
        n_heads=heads,
        activation=ACTIVATIONS[activation],
        tied_embedding=fields.get("tie_word_embeddings", True) is not False,
        **DENSE,
    )


# What every GPT-2 has, and what it does not have.
DENSE: dict[str, Any] = {
    "norm": "layer",
    "norm_bias": True,
    "bias": True,
    "positions": "added",
    "residual_activation": "identity",
    "attention_sink": False,
    "bigram": "none",
    "activation_fraction": None,
}


def is_gpt2(model: Model) -> bool:
    """Whether a model of ours computes what some GPT-2 does."""
    config = dataclasses.asdict(model.config)
    fits = all(config[name] == value for name, value in DENSE.items())
    return (
        fits
        and model.config.d_attention == model.config.d_model
        and not np.any(named_leaves(model.params)["logit_bias"])
    )


def write_gpt2(model: Model) -> tuple[dict[str, object], dict[str, np.ndarray]]:
    """The fields of `config.json` and the tensors of a model for which `is_gpt2` holds."""
    config = model.config
    fields = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": config.vocab_size,
        "n_positions": config.context,
        "n_embd": config.d_model,
        "n_layer": config.n_layers,
        "n_head": config.n_heads,
        "n_inner": config.d_mlp,
        "activation_function": next(
            theirs for theirs, ours in ACTIVATIONS.items() if ours == config.activation
        ),
        "tie_word_embeddings": config.tied_embedding,
        **FIXED,
    }
    tensors = dict(write_leaves(model.params, places(ROWS, config), config))
    del tensors[LOGIT_BIAS]
    return fields, {name if name == UNEMBEDDING else PREFIX + name: value for name, value in tensors.items()}
