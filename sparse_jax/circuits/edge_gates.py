"""Gates on single weights, applied to the parameters: a closed edge carries its source's ablation value."""

from sparse_jax.circuits.gates import Gates
from sparse_jax.inputs import InputError, nearest
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params
from sparse_jax.model.layers import HEAD_CONSTANTS
from sparse_jax.trees import map_named


def gate_edges(config: ModelConfig, params: Params, gates: Gates, ablated: Gates) -> Params:
    """The parameters of the model whose closed edges carry their source's ablation value [L, Din].

    y = x @ (W * G) + a @ (W * (1 - G)) + b: kernels and biases change. Values of `v` are weighted by
    attention, whose rows need not sum to 1 (the sink takes a share), so closed edges "v->attn_out" contribute
    a constant per head times the sum of the row (`HEAD_CONSTANTS`). Edges without gates stay open.

    Raises InputError for a model without biases, and for names or shapes that do not fit the model.
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
