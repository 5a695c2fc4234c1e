"""The table of sites, the named points of a model: where each lies, its width, and which hooks it takes.

A *node* is one channel of a node site (METHOD 2). The other sites have no nodes, but all can be captured,
most of them also patched and added to, and two of them made sparse. All tuples of names below are derived
from the table, in its order.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol


class Dimensions(Protocol):
    """The dimensions that widths depend on; `ModelConfig` has them."""

    @property
    def n_layers(self) -> int: ...
    @property
    def context(self) -> int: ...
    @property
    def d_model(self) -> int: ...
    @property
    def d_mlp(self) -> int: ...
    @property
    def d_attention(self) -> int: ...
    @property
    def d_block_input(self) -> int: ...


class Product(NamedTuple):
    """The matrix that computes a site's values: `sublayer.matrix` maps the channels of `source` to it."""

    source: str
    sublayer: str
    matrix: str


class Site(NamedTuple):
    """A named point.

    width: its number of channels. in_layers: whether every layer has one. nodes: whether its channels are
    nodes. sparse: whether AbsTopK can act there. product: the matrix that computes its values, if any; each
    of its weights is an edge (METHOD 7). kept: whether a matrix product reads it unchanged, so that it is
    stored for that matrix's gradient. changeable: whether patches and additions are allowed. stream: whether
    a node "reads" or "writes" its channel of the residual stream. meaning: a phrase for a node, to be
    followed by its number.
    """

    name: str
    width: Callable[[Dimensions], int]
    in_layers: bool = True
    nodes: bool = False
    sparse: bool = False
    product: Product | None = None
    kept: bool = False
    changeable: bool = True
    stream: str = ""
    meaning: str = ""


def _d_model(config: Dimensions) -> int:
    return config.d_model


def _d_mlp(config: Dimensions) -> int:
    return config.d_mlp


def _d_attention(config: Dimensions) -> int:
    return config.d_attention


def _d_block_input(config: Dimensions) -> int:
    return config.d_block_input


def _context(config: Dimensions) -> int:
    return config.context


def _one(_: Dimensions) -> int:
    return 1


EMBED_SITE, FINAL_SITE = "embed", "final_resid"
READS, WRITES = "reads", "writes"
PATTERN = "pattern"
FINAL_NORM = "final_norm"

TABLE = (
    # the residual stream before the first layer, positions added
    Site(
        EMBED_SITE,
        _d_model,
        in_layers=False,
        nodes=True,
        stream=WRITES,
        meaning="the embedding writes residual channel",
    ),
    Site(
        "attn_in",
        _d_block_input,
        nodes=True,
        sparse=True,
        kept=True,
        stream=READS,
        meaning="attention reads residual channel",
    ),
    *(
        Site(
            name,
            _d_attention,
            nodes=True,
            sparse=True,
            product=Product("attn_in", "attn", name),
            meaning=f"{meaning} channel",
        )
        for name, meaning in (("q", "query"), ("k", "key"), ("v", "value"))
    ),
    Site(
        "attn_out",
        _d_model,
        nodes=True,
        sparse=True,
        product=Product("v", "attn", "out"),
        stream=WRITES,
        meaning="attention writes residual channel",
    ),
    Site(
        "mlp_in",
        _d_block_input,
        nodes=True,
        sparse=True,
        kept=True,
        stream=READS,
        meaning="MLP reads residual channel",
    ),
    Site(
        "mlp_neuron",
        _d_mlp,
        nodes=True,
        sparse=True,
        product=Product("mlp_in", "mlp", "up"),
        kept=True,
        meaning="hidden neuron",
    ),
    Site(
        "mlp_out",
        _d_model,
        nodes=True,
        sparse=True,
        product=Product("mlp_neuron", "mlp", "down"),
        stream=WRITES,
        meaning="MLP writes residual channel",
    ),
    # the residual stream after the last layer
    Site(
        FINAL_SITE,
        _d_model,
        in_layers=False,
        nodes=True,
        stream=READS,
        meaning="the unembedding reads residual channel",
    ),
    Site("resid_in", _d_model),
    Site("resid_mid", _d_model, sparse=True),
    Site("resid_out", _d_model, sparse=True),
    # what the heads read, before the output matrix
    Site("heads", _d_attention),
    # attention weights [L, B, H, T, T]
    Site(PATTERN, _context, changeable=False),
    # what each RMSNorm divides by: [L, B, T, 1], [B, T, 1] for the last
    Site("attn_norm", _one, changeable=False),
    Site("mlp_norm", _one, changeable=False),
    Site(FINAL_NORM, _one, in_layers=False, changeable=False),
)
_BY_NAME = {site.name: site for site in TABLE}

CAPTURE_SITES = tuple(_BY_NAME)
NODE_SITES = tuple(site.name for site in TABLE if site.nodes)
LAYER_SITES = tuple(site.name for site in TABLE if site.nodes and site.in_layers)
UNLAYERED_SITES = tuple(site.name for site in TABLE if site.nodes and not site.in_layers)
TOPK_SITES = tuple(site.name for site in TABLE if site.sparse)
PRODUCT_SITES = tuple(site.name for site in TABLE if site.kept)
# Sites that take patches and additions.
CHANGEABLE_SITES = tuple(site.name for site in TABLE if site.changeable)
# Nodes that are channels of the residual stream, read from it or written to it.
READER_SITES = tuple(site.name for site in TABLE if site.stream == READS)
WRITER_SITES = tuple(site.name for site in TABLE if site.stream == WRITES)
NORMS = ("attn_norm", "mlp_norm", FINAL_NORM)

# (source site, target site, sub-layer, matrix): the matrix maps source channels to target channels, and each
# of its weights is an edge (METHOD 7).
EDGE_MATRICES = tuple(
    (site.product.source, site.name, site.product.sublayer, site.product.matrix)
    for site in TABLE
    if site.product
)


def width(config: Dimensions, site: str) -> int:
    """Number of channels of `site` (for "pattern": the context length)."""
    return _BY_NAME[site].width(config)


def in_layers(site: str) -> bool:
    """Whether every layer has this site; the others lie before or after all layers."""
    return _BY_NAME[site].in_layers


def steps_of_a_layer() -> dict[str, int]:
    """The depth of each node site in the forward pass of a layer; q, k and v have the same depth."""
    found: dict[str, int] = {}
    sources: list[str] = []
    for site in TABLE:
        if site.nodes:
            source = f"{site.product.source} {site.product.sublayer}" if site.product else site.name
            if source not in sources:
                sources.append(source)
            found[site.name] = sources.index(source)
    return found


def edge_key(source: str, target: str) -> str:
    """The name of all edges from one site to another: "mlp_in->mlp_neuron"."""
    return f"{source}->{target}"


def is_edge(key: str) -> bool:
    """Whether `key` names edges, not the nodes of a site."""
    return "->" in key


def node_shapes(config: Dimensions, names: tuple[str, ...] = NODE_SITES) -> dict[str, tuple[int, ...]]:
    """Shape of one value per node: [L, N] for the sites of a layer, [N] for those outside the layers."""
    return {
        site: (config.n_layers, width(config, site)) if in_layers(site) else (width(config, site),)
        for site in names
    }


def edge_shapes(config: Dimensions) -> dict[str, tuple[int, int, int]]:
    """Shape of one value per edge, [L, Din, Dout] as the matrices themselves."""
    return {
        edge_key(source, target): (config.n_layers, width(config, source), width(config, target))
        for source, target, _, _ in EDGE_MATRICES
    }
