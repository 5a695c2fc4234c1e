"""What a user asks to change while a model runs, by names of nodes and sites: as parameters and hooks."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp

from sparse_jax.circuits.applied import calibration_of, check_circuit, circuit_hooks, values_of
from sparse_jax.circuits.graph import Circuit
from sparse_jax.inputs import InputError, require, require_choice
from sparse_jax.model import sites
from sparse_jax.model.forward import Params
from sparse_jax.model.hooks import Hooks, Patch, array_of, by_site, patches_of
from sparse_jax.model.nodes import check_layer, close, select
from sparse_jax.models.means import ablation_values
from sparse_jax.models.model import Model
from sparse_jax.trees import Arrays

Ablate = str | Iterable[str] | Mapping[str, str]


def intervention(
    model: Model,
    tokens_BxT: jax.Array,
    ablate: Ablate = (),
    add: Arrays | None = None,
    patch: Mapping[str, Patch] | None = None,
    circuit: Circuit | None = None,
) -> tuple[Params, Hooks, Callable[[jax.Array], jax.Array]]:
    """Parameters, hooks, and a function to apply to the logits.

    Raises InputError for names and values that are none, for a circuit of another model, and for nodes to
    ablate beside a circuit.
    """
    params, hooks, calibrate = model.params, Hooks(), _unchanged
    if circuit is not None:
        check_circuit(model, circuit)
        params, hooks = circuit_hooks(model, circuit, values_of(model, circuit), tokens_BxT)
        calibrate = calibration_of(circuit, model.config.vocab_size).apply
    if not isinstance(ablate, (str, Mapping)):
        require(isinstance(ablate, Iterable), "ablate", ablate, "names of nodes or sites")
        ablate = list(ablate)
    if ablate:
        if circuit is not None:
            raise InputError("ablate: given with a circuit, which has its own ablation; valid: one of them")
        gates, ablated = close(model.config, ablate, _means(model, ablate))
        hooks = dataclasses.replace(hooks, gates=gates, ablated=ablated)
    hooks = dataclasses.replace(hooks, additions=_additions(model, add), patches=patches_of(patch))
    return params, hooks, calibrate


def _means(model: Model, ablate: Ablate) -> Arrays | None:
    if isinstance(ablate, Mapping) and "mean" not in map(str, ablate.values()):
        return None
    names = [ablate] if isinstance(ablate, str) else ablate
    if isinstance(ablate, Mapping):
        names = [name for name, ablation in ablate.items() if ablation == "mean"]
    return ablation_values(model, tuple(select(model.config, names)))


def _additions(model: Model, add: Arrays | None) -> dict[str, jax.Array]:
    """Additions by site; a value for "layer.site" is 0 in the other layers."""
    found: dict[str, jax.Array] = {}
    for name, value in by_site("add", add).items():
        field = f"add[{name!r}]"
        layer, dot, site = name.rpartition(".")
        value = array_of(field, value).astype(jnp.float32)
        if dot:
            require_choice(field, site, sites.CHANGEABLE_SITES)
            require(layer.isdecimal(), field, layer, "layer.site, with the number of a layer")
            check_layer(model.config, field, int(layer), site)
        if dot and sites.in_layers(site):
            require(value.ndim <= 3, field, value.shape, "what broadcasts to [B, T, N]")
            value = jnp.reshape(value, (1,) * (3 - value.ndim) + value.shape)
            layers = jnp.arange(model.config.n_layers) == int(layer)
            value = jnp.where(layers[:, None, None, None], value, 0)
        found[site] = found[site] + value if site in found else value
    return found


def _unchanged(logits: jax.Array) -> jax.Array:
    return logits
