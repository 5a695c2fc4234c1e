"""Which named points a model has, and how wide each is.

A *node* is one channel of one node site (METHOD 2). The other points can be captured and patched, and
two of them can be made sparse, but they hold no nodes.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparse_jax.model.config import ModelConfig

LAYER_SITES = ("attn_in", "q", "k", "v", "attn_out", "mlp_in", "mlp_neuron", "mlp_out")
# The residual stream before the first layer, positions added, and after the last.
EMBED_SITE, FINAL_SITE = "embed", "final_resid"
UNLAYERED_SITES = (EMBED_SITE, FINAL_SITE)
# What a product with a weight matrix reads as it is, and keeps for that matrix's gradient.
PRODUCT_SITES = ("attn_in", "mlp_in", "mlp_neuron")
# Where the residual stream enters the first and every layer.
LAYER_STARTS = (EMBED_SITE, "resid_in")
NODE_SITES = (EMBED_SITE, *LAYER_SITES, FINAL_SITE)

RESIDUAL_SITES = ("resid_mid", "resid_out")
TOPK_SITES = (*LAYER_SITES, *RESIDUAL_SITES)

PATTERN = "pattern"
# What each RMSNorm divides by: [L, B, T, 1], [B, T, 1] for the last.
FINAL_NORM = "final_norm"
NORMS = ("attn_norm", "mlp_norm", FINAL_NORM)
CAPTURE_SITES = (*NODE_SITES, "resid_in", *RESIDUAL_SITES, "heads", PATTERN, *NORMS)

# (source site, target site, sub-layer, matrix): the matrix maps source channels to target channels, and each
# of its weights is an edge (METHOD 7).
EDGE_MATRICES = (
    ("attn_in", "q", "attn", "q"),
    ("attn_in", "k", "attn", "k"),
    ("attn_in", "v", "attn", "v"),
    ("v", "attn_out", "attn", "out"),
    ("mlp_in", "mlp_neuron", "mlp", "up"),
    ("mlp_neuron", "mlp_out", "mlp", "down"),
)


def width(config: "ModelConfig", site: str) -> int:
    """Number of channels of `site` (for "pattern": the context length)."""
    if site in ("attn_in", "mlp_in"):
        return config.d_block_input
    if site in ("q", "k", "v", "heads"):
        return config.d_attention
    if site == "mlp_neuron":
        return config.d_mlp
    if site == PATTERN:
        return config.context
    if site in NORMS:
        return 1
    return config.d_model


def edge_key(source: str, target: str) -> str:
    """The name of all edges from one site to another: "mlp_in->mlp_neuron"."""
    return f"{source}->{target}"


def is_edge(key: str) -> bool:
    """Whether `key` names edges, not the nodes of a site."""
    return "->" in key


def node_shapes(config: "ModelConfig", names: tuple[str, ...] = NODE_SITES) -> dict[str, tuple[int, ...]]:
    """Shape of one value per node: [L, N] for the sites of a layer, [N] for those outside the layers."""
    return {
        site: (width(config, site),) if site in UNLAYERED_SITES else (config.n_layers, width(config, site))
        for site in names
    }


def edge_shapes(config: "ModelConfig") -> dict[str, tuple[int, int, int]]:
    """Shape of one value per edge, [L, Din, Dout] as the matrices themselves."""
    return {
        edge_key(source, target): (config.n_layers, width(config, source), width(config, target))
        for source, target, _, _ in EDGE_MATRICES
    }
