"""Interventions at sites, as data: gates with ablation values, additions, patches and captures.

Hooks are arguments of the forward function, not context managers, which a jitted function would ignore. At
each site they are applied in this order: AbsTopK, gate, addition, patch, capture.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from sparse_jax.inputs import InputError, nearest, require, require_choice, shown
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.positions import take_tokens
from sparse_jax.trees import Array, Arrays


@struct.dataclass
class Patch:
    """Puts `value` where `where` is true; both broadcast to [L, B, T, N] ([B, T, N] outside the layers)."""

    where: Array
    value: Array

    def per_layer(self, n_layers: int) -> "Patch":
        """The same patch with the layer axis written out, ready to be scanned over."""

        return Patch(_per_layer(self.where, n_layers), _per_layer(self.value, n_layers))


@struct.dataclass
class Carried:
    """What closed edges from a site carry instead of its value x: share * x + (1 - share) * value.

    value: [L, N], or one per token, [L, B, T, N]. share: [L, B, 1, N], or None for 0.
    """

    value: Array
    share: Array | None = None

    def of(self, x: jax.Array) -> jax.Array:
        """What is carried instead of the values x [B, T, N] of a layer."""
        value = jnp.broadcast_to(jnp.asarray(self.value, x.dtype), x.shape)
        if self.share is None:
            return value
        share = jnp.asarray(self.share, x.dtype)
        return x * share + value * (1 - share)


def _per_layer(x: Array, n_layers: int) -> jax.Array:
    """x, which broadcasts to [L, B, T, N], with the layer axis written out."""
    x = jnp.reshape(x, (1,) * (4 - jnp.ndim(x)) + jnp.shape(x))
    return jnp.broadcast_to(x, (n_layers, *x.shape[1:]))


def _at(value: Array, at_BxA: jax.Array) -> Array:
    """Selects some tokens of an array that broadcasts to [B, T, N]; unchanged if equal at all positions."""
    if jnp.ndim(value) < 2 or jnp.shape(value)[-2] == 1:
        return value
    return take_tokens(jnp.broadcast_to(value, (len(at_BxA), *jnp.shape(value)[-2:])), at_BxA)


@struct.dataclass
class Hooks:
    """Interventions by site name; per-layer arrays carry the layer axis first.

    gates: [L, N] ([N] at `embed` and `final_resid`), 1 keeps a node and 0 replaces it by its ablation value;
    or one gate per sequence, [L, B, 1, N] ([B, 1, N] outside the layers).
    ablated: the ablation values of closed nodes (0 if absent), in the same shapes, or one value per token,
    [L, B, T, N] ([B, T, N] outside the layers).
    additions: what is added at a site, broadcast like NumPy to [L, B, T, N] ([B, T, N] outside the layers): a
    vector [N] is added in every layer; [L, 1, 1, N] has one vector per layer.
    patches: a Patch per site.
    norms: what an RMSNorm divides by instead of the root mean square of its input, by name (one of NORMS),
    [L, B, T, 1] ([B, T, 1] for the last).
    carried: what closed edges carry, by the site that they come from. Set by `circuits.edge_gates`, which
    puts the edges' weights into the parameters.
    capture: names of the sites whose values the forward function returns.
    """

    gates: Arrays = struct.field(default_factory=dict)
    ablated: Arrays = struct.field(default_factory=dict)
    additions: Arrays = struct.field(default_factory=dict, kw_only=True)
    patches: Mapping[str, Patch] = struct.field(default_factory=dict)
    norms: Arrays = struct.field(default_factory=dict)
    carried: Mapping[str, Carried] = struct.field(default_factory=dict, kw_only=True)
    capture: tuple[str, ...] = struct.field(pytree_node=False, default=())

    def split(self, n_layers: int) -> tuple["Hooks", "Hooks"]:
        """The hooks in the layers, which are scanned, and those outside of them."""
        outside = self._select(lambda site: not sites.in_layers(site))
        layers = self._select(sites.in_layers)
        patches = {site: patch.per_layer(n_layers) for site, patch in layers.patches.items()}
        additions = {site: _per_layer(value, n_layers) for site, value in layers.additions.items()}
        return dataclasses.replace(layers, patches=patches, additions=additions), outside

    def _select(self, belongs: Callable[[str], bool]) -> "Hooks":
        def pick(mapping: Mapping[str, Any]) -> dict[str, Any]:
            return {site: value for site, value in mapping.items() if belongs(site)}

        return Hooks(
            gates=pick(self.gates),
            ablated=pick(self.ablated),
            additions=pick(self.additions),
            patches=pick(self.patches),
            norms=pick(self.norms),
            carried=pick(self.carried),
            capture=tuple(filter(belongs, self.capture)),
        )

    @property
    def see_all_positions(self) -> bool:
        """Whether a patch, addition or capture may need positions that do not affect the logits."""
        return bool(self.patches or self.additions or self.capture)

    def at(self, at_BxA: jax.Array) -> "Hooks":
        """The hooks of one layer, for values [B, A, N] of some tokens of every sequence."""
        ablated = {site: _at(value, at_BxA) for site, value in self.ablated.items()}
        norms = {site: take_tokens(rms, at_BxA) for site, rms in self.norms.items()}
        additions = {site: _at(value, at_BxA) for site, value in self.additions.items()}
        patches = {
            site: Patch(_at(patch.where, at_BxA), _at(patch.value, at_BxA))
            for site, patch in self.patches.items()
        }
        carried = {
            site: Carried(_at(carried.value, at_BxA), carried.share) for site, carried in self.carried.items()
        }
        return dataclasses.replace(
            self, ablated=ablated, norms=norms, additions=additions, patches=patches, carried=carried
        )

    def carried_from(self, site: str, x: jax.Array) -> jax.Array | None:
        """What closed edges carry that come from `site`, where the value is x; None without such edges."""
        return self.carried[site].of(x) if site in self.carried else None

    def apply(self, site: str, x: jax.Array) -> jax.Array:
        """Applies gate, addition and patch to the value `x` [..., N] of `site`."""
        if site in self.gates:
            gate = self.gates[site].astype(x.dtype)
            x = x * gate
            if site in self.ablated:
                x = x + self.ablated[site].astype(x.dtype) * (1 - gate)
        if site in self.additions:
            x = x + jnp.asarray(self.additions[site], x.dtype)
        if site in self.patches:
            patch = self.patches[site]
            x = jnp.where(patch.where, jnp.asarray(patch.value, x.dtype), x)
        return x


NO_HOOKS = Hooks()


def patches_of(given: Mapping[str, Patch] | None) -> dict[str, Patch]:
    """The patches that a user gave, with arrays for lists. Raises InputError for what are none."""
    found = {}
    for site, patch in by_site("patch", given).items():
        field = f"patch[{site!r}]"
        require(isinstance(patch, Patch), field, patch, "a Patch")
        found[site] = Patch(array_of(f"{field}.where", patch.where), array_of(f"{field}.value", patch.value))
    return found


def by_site(field: str, given: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What a user gave by site, perhaps nothing. Raises InputError unless it is a mapping from names."""
    require(given is None or isinstance(given, Mapping), field, given, "a mapping, by site")
    for name in given or ():
        require(isinstance(name, str), field, name, "names of sites")
    return given or {}


def array_of(field: str, value: Any) -> jax.Array:
    """The value as an array. Raises InputError if it is none of numbers."""
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError):
        raise InputError(f"{field}: {shown(value)} is not valid; valid: numbers") from None


def check_hooks(config: ModelConfig, hooks: Hooks, tokens_shape: tuple[int, ...]) -> None:
    """Raises InputError for a site that does not exist, a wrong shape, or ablation values without gates."""
    for site in hooks.capture:
        require_choice("hooks.capture", site, sites.CAPTURE_SITES)
    for site, value in hooks.additions.items():
        require_choice("hooks.additions", site, sites.CHANGEABLE_SITES)
        _check_broadcast(config, f"hooks.additions[{site!r}]", site, value, tokens_shape)
    for site, patch in hooks.patches.items():
        require_choice("hooks.patches", site, sites.CHANGEABLE_SITES)
        for part, array in (("where", patch.where), ("value", patch.value)):
            _check_broadcast(config, f"hooks.patches[{site!r}].{part}", site, array, tokens_shape)
    for site in hooks.carried:
        require_choice("hooks.carried", site, [source for source, *_ in sites.EDGE_MATRICES])
    _check_norms(config, hooks, tokens_shape)
    _check_gates(config, hooks, tokens_shape)


def _check_broadcast(config: ModelConfig, field: str, site: str, array, tokens_shape) -> None:
    """Raises InputError unless `array` broadcasts to the values of `site`."""
    layers = (config.n_layers,) if sites.in_layers(site) else ()
    whole = (*layers, *tokens_shape, sites.width(config, site))
    given = tuple(jnp.shape(array))
    fits = all(size in (1, full) for size, full in zip(given[::-1], whole[::-1]))
    if len(given) > len(whole) or not fits:
        raise InputError(f"{field}: shape {given}; valid: what broadcasts to {whole}")


def _check_norms(config: ModelConfig, hooks: Hooks, tokens_shape) -> None:
    for site, rms in hooks.norms.items():
        require_choice("hooks.norms", site, sites.NORMS)
        shape = (config.n_layers, *tokens_shape, 1) if sites.in_layers(site) else (*tokens_shape, 1)
        if config.norm != "rms" or tuple(rms.shape) != shape:
            valid = f"{shape} for a model with RMSNorm"
            raise InputError(f"hooks.norms[{site!r}]: shape {tuple(rms.shape)}; valid: {valid}")


def _check_gates(config: ModelConfig, hooks: Hooks, tokens_shape) -> None:
    shapes = sites.node_shapes(config)
    for kind, arrays in (("gates", hooks.gates), ("ablated", hooks.ablated)):
        for site, array in arrays.items():
            if site not in shapes:
                raise InputError(f"hooks.{kind}: {site!r} has no nodes; {nearest(site, shapes)}")
            layers, width = shapes[site][:-1], shapes[site][-1]
            valid = [shapes[site], (*layers, tokens_shape[0], 1, width)]
            valid += [(*layers, *tokens_shape, width)] if kind == "ablated" else []
            if tuple(array.shape) not in valid:
                choices = " or ".join(map(str, valid))
                raise InputError(f"hooks.{kind}[{site!r}]: shape {tuple(array.shape)}; valid: {choices}")
    for site in hooks.ablated:
        if site not in hooks.gates:
            raise InputError(f"hooks.ablated[{site!r}]: no gate at this site; valid: a gated site")


def check_steady(hooks: Hooks) -> None:
    """Raises InputError unless the hooks are the same at every position, which token-by-token sampling needs.

    Allowed are gates, ablation values, additions and patches whose position axis has size 1 or is absent, but
    no captures, frozen norms or closed edges that carry anything but a constant.
    """
    valid = "hooks that are the same at every position"
    for kind, given in (("capture", hooks.capture), ("norms", hooks.norms), ("carried", hooks.carried)):
        if given:
            raise InputError(f"hooks.{kind}: {next(iter(given))!r} while sampling; valid: {valid}")
    for site, value in hooks.ablated.items():
        if jnp.ndim(value) > 2 and jnp.shape(value)[-2] != 1:
            raise InputError(f"hooks.ablated[{site!r}]: one value per token while sampling; valid: {valid}")
    arrays: dict[str, Array] = {f"additions[{site!r}]": value for site, value in hooks.additions.items()}
    for site, patch in hooks.patches.items():
        arrays |= {f"patches[{site!r}].where": patch.where, f"patches[{site!r}].value": patch.value}
    for field, array in arrays.items():
        if jnp.ndim(array) > 1 and jnp.shape(array)[-2] != 1:
            raise InputError(f"hooks.{field}: shape {jnp.shape(array)} while sampling; valid: {valid}")
