"""Exemplars: the text on which each node of a circuit is most active."""

from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.circuits.graph import Node
from sparse_jax.inputs import require
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, check_ids, forward
from sparse_jax.model.hooks import Hooks

Decode = Callable[[list[int]], str]


def exemplars(
    model_config: ModelConfig,
    params: Params,
    circuit_nodes: Iterable[Node],
    windows: np.ndarray,
    decode: Decode,
    per_node: int = 3,
    batch: int = 16,
    reach: int = 12,
) -> dict[str, list[dict[str, object]]]:
    """For each node name, the positions in `windows` (int32 [W, T]) where |activation| is largest.

    At most `per_node` positions per node, strongest first, and at most one per window (the earliest if
    equal); positions where the node is 0 are left out. Each is {"before", "token", "after", "value"}: the
    token, up to `reach` tokens of text on either side, and the signed activation in the full, unpruned model.
    Pass the nodes of all circuits of a model at once; duplicates cost nothing.

    Raises InputError for windows that are not [W, T] with T at most the model's context, or with token ids
    that the model does not have.
    """
    windows = np.asarray(windows, np.int32)
    require(windows.ndim == 2 and windows.size > 0, "windows", windows.shape, "[W, T], not empty")
    check_ids(model_config, windows, "windows")
    nodes = list(dict.fromkeys(circuit_nodes))
    if not nodes:
        return {}
    places, values = _peaks(model_config, params, nodes, windows, batch)
    order = np.argsort(-np.abs(values), axis=1, kind="stable")[:, :per_node]
    return {
        node.name: [
            _excerpt(windows[w], places[row, w], values[row, w], decode, reach)
            for w in order[row]
            if values[row, w] != 0
        ]
        for row, node in enumerate(nodes)
    }


def _peaks(config: ModelConfig, params: Params, nodes: Sequence[Node], windows_WxT, batch: int):
    """Position and value [nodes, W] of the largest |activation| of each node in each window."""
    names = tuple(dict.fromkeys(node.site for node in nodes))
    rows = {site: [i for i, node in enumerate(nodes) if node.site == site] for site in names}
    hooks = Hooks(capture=names)

    @jax.jit
    def peaks_of(params, tokens_BxT):
        # The reduction over positions stays on the device: only [nodes, B] goes to the host.
        _, captured = forward(config, params, tokens_BxT, hooks)
        found = {site: _peak(captured[site], [nodes[i] for i in rows[site]]) for site in names}
        return found

    count, width = windows_WxT.shape
    places = np.zeros((len(nodes), count), np.int32)
    values = np.zeros((len(nodes), count), np.float32)
    for start in range(0, count, batch):
        # A short last batch is padded, so that all batches share one program.
        tokens = np.zeros((batch, width), np.int32)
        part = windows_WxT[start : start + batch]
        tokens[: len(part)] = part
        for site, (place, value) in jax.device_get(peaks_of(params, tokens)).items():
            places[rows[site], start : start + len(part)] = place[:, : len(part)]
            values[rows[site], start : start + len(part)] = value[:, : len(part)]
    return places, values


def _peak(captured: jax.Array, nodes: Sequence[Node]) -> tuple[jax.Array, jax.Array]:
    """From one site's values [L, B, T, N] (or [B, T, N]) to position and value [nodes, B]."""
    index = np.array([node.index for node in nodes])
    if nodes[0].site in sites.UNLAYERED_SITES:
        chosen = jnp.moveaxis(captured[..., index], -1, 0)
    else:
        layer = np.array([node.layer for node in nodes])
        chosen = captured[layer, :, :, index]
    place = jnp.argmax(jnp.abs(chosen), axis=-1)
    value = jnp.take_along_axis(chosen, place[..., None], axis=-1)[..., 0]
    return place, value.astype(jnp.float32)


def _excerpt(window_T, place: int, value: float, decode: Decode, reach: int) -> dict[str, object]:
    tokens = window_T.tolist()
    return {
        "before": decode(tokens[max(0, place - reach) : place]),
        "token": decode(tokens[place : place + 1]),
        "after": decode(tokens[place + 1 : place + 1 + reach]),
        "value": float(value),
    }
