"""What a gated model does at the tokens of prompts: values of all sites, and what its norms divide by."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.circuits.applied import circuit_hooks
from sparse_jax.circuits.gates import Gates
from sparse_jax.circuits.graph import Circuit
from sparse_jax.model import sites
from sparse_jax.model.forward import forward
from sparse_jax.model.layers import LAYER_NORM_EPSILON
from sparse_jax.models.model import Model
from sparse_jax.tasks.encode import EncodedPairs

# recorded beside the sites: the sums of attention rows, by head
ROW_SUMS = "row_sums"
_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Record:
    """What the gated model does at all N tokens of the prompts, in float64.

    token, position: [N]. last: bool [N], the last tokens. values: by site and layer, [N, width]. mean, size:
    by norm and layer, what it subtracts and divides by, [N].
    """

    token: np.ndarray
    position: np.ndarray
    last: np.ndarray
    values: Mapping[tuple[str, int], np.ndarray]
    mean: Mapping[tuple[str, int], np.ndarray]
    size: Mapping[tuple[str, int], np.ndarray]

    @classmethod
    def of(cls, model: Model, circuit: Circuit, values: Gates, pairs: EncodedPairs) -> "Record":
        config, names = model.config, (*sites.LAYER_SITES, "heads", "resid_in", "resid_mid", sites.FINAL_SITE)
        norms = sites.NORMS if config.norm == "rms" else ()
        tokens, last, _ = pairs.flat()
        captures = (*names, *norms, sites.PATTERN)

        @jax.jit
        def run(params, hooks, rows):
            found = forward(config, params, rows, dataclasses.replace(hooks, capture=captures))[1]
            pattern = found.pop(sites.PATTERN)
            return {**found, ROW_SUMS: jnp.swapaxes(pattern.sum(axis=-1), -1, -2)}

        parts = []
        for start in range(0, len(tokens), _BATCH):
            rows = tokens[start : start + _BATCH]
            params, hooks = circuit_hooks(model, circuit, values, jnp.asarray(rows))
            found = run(params, hooks, rows)
            frozen = {name: np.asarray(x) for name, x in hooks.norms.items()}
            parts.append({**jax.device_get(found), **frozen})
        place = np.arange(tokens.shape[1])
        real = place <= last[:, None]

        def of_site(name: str, layer: int) -> np.ndarray:
            layered = name == ROW_SUMS or sites.in_layers(name)
            each = [part[name][layer] if layered else part[name] for part in parts]
            return np.concatenate(each)[real].astype(np.float64)

        layers = range(config.n_layers)
        layered = [name for name in (*names, ROW_SUMS) if name != sites.FINAL_SITE]
        places = [(name, layer) for name in layered for layer in layers]
        found_values = {key: of_site(*key) for key in [*places, (sites.FINAL_SITE, 0)]}
        streams = {"attn_norm": "resid_in", "mlp_norm": "resid_mid", sites.FINAL_NORM: sites.FINAL_SITE}
        mean, size = {}, {}
        for norm, stream in streams.items():
            for layer in layers if sites.in_layers(norm) else (0,):
                x = found_values[stream, layer]
                key = norm, layer
                if config.norm == "rms":
                    mean[key], size[key] = np.zeros(len(x)), of_site(norm, layer)[:, 0]
                else:
                    mean[key], size[key] = x.mean(axis=1), np.sqrt(x.var(axis=1) + LAYER_NORM_EPSILON)
        at = np.broadcast_to(place, tokens.shape)[real]
        return cls(tokens[real], at, (place == last[:, None])[real], found_values, mean, size)

    def average(self, x_N: np.ndarray, size: int, chosen: np.ndarray | None = None) -> np.ndarray:
        """The mean of x [N] where each of `size` tokens stands; that of all for tokens that do not occur."""
        token, x = (self.token, x_N) if chosen is None else (self.token[chosen], x_N[chosen])
        count, total = np.bincount(token, minlength=size), np.bincount(token, x, size)
        return np.where(count > 0, total / np.maximum(count, 1), x.mean())

    def excited(self, x_N: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The tokens at which a value is largest and smallest on average, most extreme first.

        At most three each, and only those nearer to the extreme than to what is usual.
        """
        tokens, inverse, count = np.unique(self.token, return_inverse=True, return_counts=True)
        mean, usual = np.bincount(inverse, x_N) / count, np.median(x_N)
        found = []
        for sign in (1, -1):
            off = sign * (mean - usual)
            order = np.argsort(-off)[:3]
            found.append(tuple(int(tokens[i]) for i in order if off[i] > max(off.max() / 2, 1e-6)))
        return found[0], found[1]
