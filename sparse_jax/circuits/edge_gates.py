"""Gates on single weights, applied to the parameters: a closed edge carries its source's ablation value."""

from typing import Any

import jax.numpy as jnp

from sparse_jax.circuits.gates import Gates
from sparse_jax.inputs import InputError, nearest
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params
from sparse_jax.model.hooks import Carried
from sparse_jax.model.layers import CLOSED, HEAD_CONSTANTS
from sparse_jax.trees import map_named


def gate_edges(
    config: ModelConfig, params: Params, gates: Gates, ablated: Gates, share: Gates | None = None
) -> tuple[Params, dict[str, Carried]]:
    """The parameters of a model whose closed edges carry their source's ablation value, and `Hooks.carried`.

    y = x @ (W * G) + a @ (W * (1 - G)) + b. ablated: a, constants [L, Din] or one per token, [L, B, T, Din].
    Constants are folded into biases. Those of `v` are weighted by attention, whose rows need not sum to 1
    (the sink takes a share), so closed edges "v->attn_out" contribute a constant per head times the sum of
    the row (`HEAD_CONSTANTS`). Otherwise the closed weights become leaves of their own (`CLOSED`), and what
    they carry stands in the hooks. share: of its own value that a source keeps, [L, B, 1, Din] by site, as
    in `draws.Ablated`. Edges without gates stay open.

    Raises InputError for a model without biases, and for names or shapes that do not fit the model.
    """
    check_edges(config, gates)
    share = share or {}
    changed, carried = {}, {}
    more: dict[str, dict[str, Any]] = {"attn": {}, "mlp": {}}
    for source, target, sublayer, matrix in sites.EDGE_MATRICES:
        key = sites.edge_key(source, target)
        if key not in gates:
            continue
        linear, name = params["layers"][sublayer][matrix], f"layers/{sublayer}/{matrix}"
        kernel_LxIxO, gate = linear["kernel"], gates[key].astype(linear["kernel"].dtype)
        changed[f"{name}/kernel"] = kernel_LxIxO * gate
        closed_LxIxO = kernel_LxIxO * (1 - gate)
        if source in share or jnp.ndim(ablated[source]) > 2:
            more[sublayer][CLOSED + matrix] = closed_LxIxO
            carried[source] = Carried(ablated[source], share.get(source))
            continue
        carried_LxIxO = ablated[source][..., None] * closed_LxIxO
        if target == "attn_out":
            heads = carried_LxIxO.reshape(config.n_layers, config.n_heads, config.d_head, -1)
            more[sublayer][HEAD_CONSTANTS] = heads.sum(axis=2)
        else:
            changed[f"{name}/bias"] = linear["bias"] + carried_LxIxO.sum(axis=1)
    params = map_named(lambda name, leaf: changed.get(name, leaf), params)
    layers = {name: {**leaves, **more.get(name, {})} for name, leaves in params["layers"].items()}
    return {**params, "layers": layers}, carried


def check_edges(config: ModelConfig, gates: Gates) -> None:
    """Raises InputError unless `gates` are edges of this model and the model has biases."""
    if gates and not config.bias:
        raise InputError(
            "model.bias: False, but closed edges need biases to carry means; valid: a model with biases"
        )
    shapes = sites.edge_shapes(config)
    for name, gate in gates.items():
        if name not in shapes:
            raise InputError(f"gates: {name!r} is not an edge; {nearest(name, shapes)}")
        if tuple(gate.shape) != shapes[name]:
            raise InputError(f"gates[{name!r}]: shape {tuple(gate.shape)}; valid: {shapes[name]}")
