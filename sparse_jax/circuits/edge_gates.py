"""Gates on single weights: a closed edge carries the mean of its source, as a change of the parameters."""

from sparse_jax.circuits.gates import Gates
from sparse_jax.inputs import InputError, nearest
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params
from sparse_jax.model.layers import HEAD_CONSTANTS
from sparse_jax.trees import map_named


def gate_edges(config: ModelConfig, params: Params, gates: Gates, ablated: Gates) -> Params:
    """The parameters of the model whose closed edges carry their source's ablation value [L, Din].

    y = x @ (W * G) + a @ (W * (1 - G)) + b: kernels and biases change. What a head passes on is weighed by
    its attention first, and a row of attention need not add up to 1 (the sink takes a share), so what closed
    edges "v->attn_out" carry becomes a constant per head, times the sum of its row (`HEAD_CONSTANTS`).
    Names that `gates` lacks stay open.

    Raises InputError for a model without biases, and for names or shapes that are not this model's.
    """
    check_edges(config, gates)
    changed = {}
    for source, target, sublayer, matrix in sites.EDGE_MATRICES:
        key = sites.edge_key(source, target)
        if key not in gates:
            continue
        linear, name = params["layers"][sublayer][matrix], f"layers/{sublayer}/{matrix}"
        kernel_LxIxO, gate = linear["kernel"], gates[key].astype(linear["kernel"].dtype)
        changed[f"{name}/kernel"] = kernel_LxIxO * gate
        carried_LxIxO = ablated[source][..., None] * (kernel_LxIxO * (1 - gate))
        if target == "attn_out":
            heads = carried_LxIxO.reshape(config.n_layers, config.n_heads, config.d_head, -1)
            changed[HEAD_CONSTANTS] = heads.sum(axis=2)
        else:
            changed[f"{name}/bias"] = linear["bias"] + carried_LxIxO.sum(axis=1)
    params = map_named(lambda name, leaf: changed.get(name, leaf), params)
    if HEAD_CONSTANTS not in changed:
        return params
    attention = {**params["layers"]["attn"], HEAD_CONSTANTS: changed[HEAD_CONSTANTS]}
    return {**params, "layers": {**params["layers"], "attn": attention}}


def check_edges(config: ModelConfig, gates: Gates) -> None:
    """Raises InputError unless `gates` are edges of this model and the model has biases to carry means."""
    if gates and not config.bias:
        raise InputError(
            "model.bias: False, so a closed edge's mean has no place; valid: a model with biases"
        )
    shapes = sites.edge_shapes(config)
    for name, gate in gates.items():
        if name not in shapes:
            raise InputError(f"gates: {name!r} is no edge; {nearest(name, shapes)}")
        if tuple(gate.shape) != shapes[name]:
            raise InputError(f"gates[{name!r}]: shape {tuple(gate.shape)}; valid: {shapes[name]}")
