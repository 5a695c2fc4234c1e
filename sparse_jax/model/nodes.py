"""Nodes by name: "1.mlp_neuron.17" is a channel, "1.mlp_neuron" a site in one layer, "mlp_neuron" in all.

Names are the same as in circuits: `embed` is in layer 0, `final_resid` in the last layer + 1.
"""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from sparse_jax.inputs import InputError, nearest, require_choice
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.trees import Arrays

ABLATIONS = ("mean", "zero")


@dataclasses.dataclass(frozen=True)
class Address:
    """A parsed name; None stands for all. `embed` is in layer 0, `final_resid` in the last layer + 1."""

    layer: int | None
    site: str
    index: int | None


def parse_node(config: ModelConfig, name: str) -> Address:
    """The nodes that `name` means: "site", "layer.site" or "layer.site.index".

    Raises InputError naming what does not exist, and the valid choices.

    >>> config = ModelConfig(vocab_size=8, context=8, n_layers=2, d_model=16)
    >>> parse_node(config, "1.mlp_neuron.17")
    Address(layer=1, site='mlp_neuron', index=17)
    >>> parse_node(config, "1.mlp_neurons")
    Traceback (most recent call last):
    sparse_jax.inputs.InputError: node '1.mlp_neurons': no site 'mlp_neurons'; did you mean 'mlp_neuron'? \
valid: attn_in, attn_out, embed, final_resid, k, mlp_in, mlp_neuron, mlp_out, q, v
    """
    parts = str(name).split(".")
    numbered = len(parts) > 1
    site = parts[1] if numbered else parts[0]
    if len(parts) > 3 or (numbered and not all(part.isdecimal() for part in (parts[0], *parts[2:]))):
        raise InputError(f"node {name!r}: not a node; valid: site, layer.site or layer.site.index")
    if site not in sites.NODE_SITES:
        raise InputError(f"node {name!r}: no site {site!r}; {nearest(site, sites.NODE_SITES)}")
    layer = int(parts[0]) if numbered else None
    index = int(parts[2]) if len(parts) == 3 else None
    if layer is not None:
        check_layer(config, f"node {name!r}", layer, site)
    width = sites.width(config, site)
    if index is not None and index >= width:
        raise InputError(f"node {name!r}: no channel {index}; valid: 0 to {width - 1}")
    return Address(layer, site, index)


def check_layer(config: ModelConfig, field: str, layer: int, site: str) -> None:
    """Raises InputError beginning with `field` unless names may put `site` into `layer`."""
    outside = {sites.EMBED_SITE: 0, sites.FINAL_SITE: config.n_layers}
    if site in outside and layer != outside[site]:
        raise InputError(f"{field}: {site} lies outside the layers; valid: {outside[site]}.{site}")
    if site not in outside and layer >= config.n_layers:
        raise InputError(f"{field}: no layer {layer}; valid: 0 to {config.n_layers - 1}")


def select(config: ModelConfig, names: Iterable[str]) -> dict[str, np.ndarray]:
    """True for the named nodes, by site in the shapes of gates: [L, N] ([N] outside the layers).

    Only named sites are present. Raises InputError as `parse_node` does.
    """
    chosen: dict[str, np.ndarray] = {}
    for name in names:
        place = parse_node(config, name)
        shape = sites.node_shapes(config, (place.site,))[place.site]
        mask = chosen.setdefault(place.site, np.zeros(shape, bool))
        columns = slice(None) if place.index is None else place.index
        rows = slice(None) if place.layer is None else place.layer
        mask[(rows, columns) if sites.in_layers(place.site) else columns] = True
    return chosen


def close(
    config: ModelConfig,
    names: str | Iterable[str] | Mapping[str, str],
    means: Arrays | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(gates, ablated) for `Hooks` that close the named nodes: 0 for them, 1 for the others of their sites.

    names: one name, several, or a mapping from names to "mean" or "zero" (default: the mean). If two entries
    name the same node, the later one counts. means: by site in the shapes of gates, [L, N] ([N] outside the
    layers). Raises InputError as `parse_node` does, for other ablations, and for a mean missing from `means`.

    >>> config = ModelConfig(vocab_size=8, context=8, n_layers=2, d_model=16)
    >>> gates, ablated = close(config, {"0.attn_in": "zero", "1.q.3": "zero"})
    >>> gates["attn_in"].sum(axis=1).tolist(), gates["q"].sum(axis=1).tolist()
    ([0.0, 16.0], [16.0, 15.0])
    """
    if isinstance(names, str):
        names = [names]
    by_name = dict(names) if isinstance(names, Mapping) else dict.fromkeys(names, "mean")
    gates: dict[str, np.ndarray] = {}
    ablated: dict[str, np.ndarray] = {}
    for name, ablation in by_name.items():
        require_choice(f"ablate[{name!r}]", ablation, ABLATIONS)
        ((site, mask),) = select(config, [name]).items()
        value = _means_of(name, site, mask.shape, means) if ablation == "mean" else 0
        gates[site] = np.where(mask, 0, gates.get(site, np.ones(mask.shape, np.float32)))
        ablated[site] = np.where(mask, value, ablated.get(site, np.zeros(mask.shape, np.float32)))
    return gates, ablated


def _means_of(name: str, site: str, shape: tuple[int, ...], means: Arrays | None):
    """The means of `site`. Raises InputError if they are missing or have another shape."""
    if means is None or site not in means:
        have = f", or nodes of {', '.join(means)}" if means else ""
        raise InputError(f"ablate[{name!r}]: no means of {site!r} are given; valid: 'zero'{have}")
    if np.shape(means[site]) != shape:
        raise InputError(f"means[{site!r}]: shape {np.shape(means[site])}; valid: {shape}")
    return np.asarray(means[site], np.float32)
