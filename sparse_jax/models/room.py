"""What surely does not fit into memory is refused, by the field that makes it so large, before it is made."""

import math

import jax

from sparse_jax.inputs import InputError
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import num_params, param_shapes
from sparse_jax.runtime.memory import gigabytes, whole_bytes
from sparse_jax.trees import first_match, named_leaves

# By leaf: the field that decides its size, and what makes it smaller.
_FIELDS = (
    (
        "bigram/kernel",
        ("bigram", "a model.bigram_table_rank such as 64, model.bigram 'none', a smaller model.vocab_size"),
    ),
    ("bigram/.*", ("bigram_table_rank", "a smaller model.bigram_table_rank or model.vocab_size")),
    ("position/.*", ("context", "a smaller model.context")),
    ("layers/mlp/.*", ("d_mlp", "a smaller model.d_mlp, model.d_model or model.n_layers")),
    ("layers/.*", ("d_model", "a smaller model.d_model, model.n_heads or model.n_layers")),
    (".*", ("vocab_size", "a smaller model.vocab_size or model.d_model")),
)


def require_room(config: ModelConfig, needed: int, devices: list[jax.Device], what: str) -> None:
    """Raises InputError if the memory of `devices` is smaller than the `needed` bytes on each, naming fields.

    what: that which needs so much. What is in use now counts as free: it may be given back.
    """
    if (said := _too_large(config, needed, devices, what)) is not None:
        raise InputError("{}; valid: {}, or more memory".format(*said))


def require_room_to_load(config: ModelConfig, origin: object) -> None:
    """Raises InputError if the parameters of a model read from `origin` exceed the memory of a device."""
    needed = 4 * num_params(param_shapes(config))
    said = _too_large(config, needed, jax.local_devices()[:1], "the parameters")
    if said is not None:
        raise InputError(f"{origin}: {said[0]}; valid: a machine with more memory")


def _too_large(config: ModelConfig, needed: int, devices: list[jax.Device], what: str):
    """What is to be said of it, and what makes it smaller; None if it may fit."""
    room = whole_bytes(devices)
    if needed <= room:
        return None
    shapes = {name: leaf.shape for name, leaf in named_leaves(param_shapes(config)).items()}
    largest = max(shapes, key=lambda name: math.prod(shapes[name]))
    field, smaller = first_match(_FIELDS, largest)
    size = " x ".join(map(str, shapes[largest]))
    each = " on each device" if len(devices) > 1 else ""
    found = (
        f"model.{field}: {getattr(config, field)!r} makes {largest} {size}; {what} need {gigabytes(needed)}"
        f"{each}, and there are {gigabytes(room)}"
    )
    return found, smaller
