"""What can be done at a site, given as data: gates with ablation values, patches and captures.

Hooks are arguments of the forward function, never context managers, which a jitted function would
ignore. Every value passes its site once, in this order: AbsTopK, gate, patch, capture.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import struct

from sparse_jax.inputs import InputError, nearest, require_choice
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.positions import take_tokens

Arrays = Mapping[str, jax.Array]


@struct.dataclass
class Patch:
    """Puts `value` where `where` holds; both broadcast to [L, B, T, N] ([B, T, N] outside the layers)."""

    where: jax.Array
    value: jax.Array

    def per_layer(self, n_layers: int) -> "Patch":
        """The same patch with the layer axis written out, ready to be scanned over."""

        def stack(x: jax.Array) -> jax.Array:
            x = jnp.reshape(x, (1,) * (4 - jnp.ndim(x)) + jnp.shape(x))
            return jnp.broadcast_to(x, (n_layers, *x.shape[1:]))

        return Patch(stack(self.where), stack(self.value))


@struct.dataclass
class Hooks:
    """Interventions by site name; per-layer arrays carry the layer axis first.

    gates: [L, N] ([N] at `embed` and `final_resid`), 1 keeps a node and 0 replaces it by its ablation value.
    ablated: same shapes, or a value of its own at every token, [L, B, T, N] ([B, T, N] outside the layers);
    what a closed gate puts in place of the node (0 where absent).
    patches: a Patch per site.
    norms: what an RMSNorm divides by in place of its input's own root mean square, by a name of NORMS,
    [L, B, T, 1] ([B, T, 1] for the last).
    capture: names of the sites whose values the forward function returns.
    stream: how the residual stream [B, T, D] lies on devices, first at `embed`, one after the other; the last
    also at the start of every layer. Where none is given, the compiler may split it along D as the parameters
    are, and then moves it about in every layer.
    """

    gates: Arrays = struct.field(default_factory=dict)
    ablated: Arrays = struct.field(default_factory=dict)
    patches: Mapping[str, Patch] = struct.field(default_factory=dict)
    norms: Arrays = struct.field(default_factory=dict)
    capture: tuple[str, ...] = struct.field(pytree_node=False, default=())
    stream: tuple[jax.sharding.Sharding, ...] = struct.field(pytree_node=False, default=())

    def split(self, n_layers: int) -> tuple["Hooks", "Hooks"]:
        """The part that is scanned over the layers, and the part for what is outside them."""
        unlayered = (*sites.UNLAYERED_SITES, sites.FINAL_NORM)
        outside = self._select(lambda site: site in unlayered)
        layers = self._select(lambda site: site not in unlayered)
        patches = {site: patch.per_layer(n_layers) for site, patch in layers.patches.items()}
        return layers.replace(patches=patches), outside

    def _select(self, belongs) -> "Hooks":
        def pick(mapping):
            return {site: value for site, value in mapping.items() if belongs(site)}

        captured = tuple(filter(belongs, self.capture))
        arrays = map(pick, (self.gates, self.ablated, self.patches, self.norms))
        return Hooks(*arrays, captured, self.stream)

    @property
    def see_all_positions(self) -> bool:
        """Whether a patch or a capture needs positions that no logit may depend on."""
        return bool(self.patches or self.capture)

    def at(self, at_BxA: jax.Array) -> "Hooks":
        """The same of one layer, for values [B, A, N] of some tokens of every sequence; no patches."""
        ablated = {
            s: value if value.ndim == 1 else take_tokens(value, at_BxA) for s, value in self.ablated.items()
        }
        norms = {site: take_tokens(rms, at_BxA) for site, rms in self.norms.items()}
        return self.replace(ablated=ablated, norms=norms)

    def apply(self, site: str, x: jax.Array) -> jax.Array:
        """Gate, then patch the value `x` [..., N] of `site`."""
        if self.stream and site in sites.LAYER_STARTS:
            for sharding in self.stream if site == sites.EMBED_SITE else self.stream[-1:]:
                x = jax.lax.with_sharding_constraint(x, sharding)
        if site in self.gates:
            gate = self.gates[site].astype(x.dtype)
            x = x * gate
            if site in self.ablated:
                x = x + self.ablated[site].astype(x.dtype) * (1 - gate)
        if site in self.patches:
            patch = self.patches[site]
            x = jnp.where(patch.where, patch.value.astype(x.dtype), x)
        return x


NO_HOOKS = Hooks()


def check_hooks(config: ModelConfig, hooks: Hooks, tokens_shape: tuple[int, int]) -> None:
    """Raises InputError for a site that does not exist, a wrong shape, or ablated without gates."""
    for site in hooks.capture:
        require_choice("hooks.capture", site, sites.CAPTURE_SITES)
    for site in hooks.patches:
        require_choice("hooks.patches", site, set(sites.CAPTURE_SITES) - {sites.PATTERN, *sites.NORMS})
    for site, rms in hooks.norms.items():
        require_choice("hooks.norms", site, sites.NORMS)
        shape = (*tokens_shape, 1) if site == sites.FINAL_NORM else (config.n_layers, *tokens_shape, 1)
        if config.norm != "rms" or tuple(rms.shape) != shape:
            valid = f"{shape} for a model with RMSNorm"
            raise InputError(f"hooks.norms[{site!r}]: shape {tuple(rms.shape)}; valid: {valid}")
    shapes = sites.node_shapes(config)
    for kind, arrays in (("gates", hooks.gates), ("ablated", hooks.ablated)):
        for site, array in arrays.items():
            if site not in shapes:
                raise InputError(f"hooks.{kind}: {site!r} has no nodes; {nearest(site, shapes)}")
            per_token = (*shapes[site][:-1], *tokens_shape, shapes[site][-1])
            fits = tuple(array.shape) == shapes[site] or (
                kind == "ablated" and tuple(array.shape) == per_token
            )
            if not fits:
                raise InputError(f"hooks.{kind}[{site!r}]: shape {tuple(array.shape)}; valid: {shapes[site]}")
    for site in hooks.ablated:
        if site not in hooks.gates:
            raise InputError(f"hooks.ablated[{site!r}]: no gate there; valid: ablated of gated sites")
