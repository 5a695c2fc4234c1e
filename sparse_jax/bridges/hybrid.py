"""Residual locations, and a model's run from a value of its residual stream to the end."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.inputs import InputError, nearest
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, forward
from sparse_jax.model.hooks import Hooks, Patch
from sparse_jax.model.nodes import parse_node
from sparse_jax.model.transformer import Shardings

_BEFORE_ATTENTION, _BEFORE_MLP = "resid_in", "resid_mid"
# At which location the nodes of a site read their channel of the residual stream.
_READ_AT = {"attn_in": _BEFORE_ATTENTION, "mlp_in": _BEFORE_MLP, sites.FINAL_SITE: sites.FINAL_SITE}
_EVERYWHERE = np.array(True)
_CAPTURED = Hooks(capture=tuple(_READ_AT.values()))


class Location(NamedTuple):
    """A point of the residual stream that has a bridge. layer: the number of layers for the last one."""

    layer: int
    site: str

    @property
    def name(self) -> str:
        """Short and readable: "0.resid_mid"."""
        return f"{self.layer}.{self.site}"


def locations(config: ModelConfig) -> tuple[Location, ...]:
    """The 2 L + 1 locations in order: before each attention, before each MLP, after the last layer.

    >>> [place.name for place in locations(ModelConfig(vocab_size=8, n_layers=1, d_model=16))]
    ['0.resid_in', '0.resid_mid', '1.final_resid']
    """
    in_layer = (_BEFORE_ATTENTION, _BEFORE_MLP)
    inside = [Location(layer, site) for layer in range(config.n_layers) for site in in_layer]
    return *inside, Location(config.n_layers, sites.FINAL_SITE)


def location_number(config: ModelConfig, name: str) -> int:
    """The number of the location `name`. Raises InputError for a name that is none.

    >>> location_number(ModelConfig(vocab_size=8, n_layers=1, d_model=16), "0.resid_mid")
    1
    """
    names = [place.name for place in locations(config)]
    if name not in names:
        raise InputError(f"location {name!r}: no bridge there; {nearest(name, names)}")
    return names.index(name)


def channel_of(config: ModelConfig, node: str) -> tuple[int, int]:
    """The number of the location whose stream a node reads, and its channel: "1.attn_in.17" -> (2, 17).

    Raises InputError for a node that does not exist, or reads no residual channel.
    """
    place = parse_node(config, node)
    valid = "a channel of attn_in, mlp_in or final_resid, such as '0.attn_in.3'"
    if place.index is None or place.layer is None or place.site not in _READ_AT:
        raise InputError(f"node {node!r}: it reads no single residual channel; valid: {valid}")
    if place.index >= config.d_model:
        raise InputError(f"node {node!r}: a position channel, which no bridge maps; valid: {valid}")
    return location_number(config, f"{place.layer}.{_READ_AT[place.site]}"), place.index


def run(
    config: ModelConfig, params: Params, tokens_BxT: jax.Array, stream: Shardings = ()
) -> tuple[jax.Array, list[jax.Array]]:
    """The full run: logits [B, T, V], and the residual stream [B, T, D] at every location."""
    logits, found = forward(config, params, tokens_BxT, _CAPTURED, stream=stream)
    return logits, _in_order(config, found)


def run_from(
    config: ModelConfig,
    params: Params,
    tokens_BxT: jax.Array,
    number: int,
    x_BxTxD: jax.Array,
    stream: Shardings = (),
) -> tuple[jax.Array, list[jax.Array]]:
    """The run whose residual stream is `x` at location `number`: logits, and the stream from there on.

    Only the layers after the location are computed. `number` is static. The list has a value for each of the
    locations from `number` to the last; the first is `x`.
    """
    place = locations(config)[number]
    layer = min(place.layer, config.n_layers - 1)
    tail = dataclasses.replace(config, n_layers=config.n_layers - layer)
    layers = jax.tree.map(lambda leaf: leaf[layer:], params["layers"])
    patches = {sites.EMBED_SITE: Patch(_EVERYWHERE, x_BxTxD)}
    if place.site == _BEFORE_MLP:
        first = (jnp.arange(tail.n_layers) == 0).reshape(-1, 1, 1, 1)
        patches[place.site] = Patch(first, x_BxTxD)
    elif place.site == sites.FINAL_SITE:
        patches[place.site] = Patch(_EVERYWHERE, x_BxTxD)
        # without gradients through them, the layers before it are not computed at all
        layers = jax.lax.stop_gradient(layers)
    hooks = dataclasses.replace(_CAPTURED, patches=patches)
    logits, found = forward(tail, {**params, "layers": layers}, tokens_BxT, hooks, stream=stream)
    after = _in_order(tail, found)
    return logits, after[len(after) - (len(locations(config)) - number) :]


def _in_order(config: ModelConfig, found: dict[str, jax.Array]) -> list[jax.Array]:
    """The captured stream at every location."""
    return [
        found[place.site][place.layer] if sites.in_layers(place.site) else found[place.site]
        for place in locations(config)
    ]
