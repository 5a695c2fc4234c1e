"""What a model is made of: every architectural choice, checked when it is made."""

import dataclasses

from sparse_jax.inputs import InputError, require, require_choice
from sparse_jax.model import sites

ACTIVATIONS = ("gelu", "gelu_tanh", "relu")
BIGRAMS = ("none", "learned", "fixed")
COMPUTE_DTYPES = ("float32", "bfloat16")
NORMS = ("rms", "layer")
POSITIONS = ("none", "added", "concatenated", "sinusoidal")
RESIDUAL_ACTIVATIONS = ("identity", "relu")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A GPT-2-style decoder as METHOD 1 and 2 describe it.

    Widths count channels, `context` counts tokens. `d_mlp` 0 stands for 4 * d_model and `n_heads` 0
    for d_model / d_head. Positions: "concatenated" and "sinusoidal" append `d_position` read-only
    channels to the input of every block, learned or fixed. Bigram: "fixed" is a table that training
    leaves alone; with `bigram_table_rank` r the table [V, V] is a product [V, r] x [r, V], for vocabularies
    whose whole table does not fit into memory. Activation: "gelu" is exact, "gelu_tanh" GPT-2's
    approximation. `activation_fraction` None switches AbsTopK off; `topk_sites` says where it acts.

    Raises InputError naming `model.<field>`.
    """

    vocab_size: int
    context: int = 256
    n_layers: int = 8
    d_model: int = 1024
    d_mlp: int = 0
    d_head: int = 16
    n_heads: int = 0
    activation: str = "gelu"
    norm: str = "rms"
    norm_bias: bool = True
    bias: bool = True
    tied_embedding: bool = False
    positions: str = "none"
    d_position: int = 0
    residual_activation: str = "identity"
    attention_sink: bool = True
    bigram: str = "learned"
    bigram_table_rank: int | None = None
    activation_fraction: float | None = 0.25
    topk_sites: tuple[str, ...] = sites.LAYER_SITES
    compute_dtype: str = "float32"
    unroll: bool = True
    remat: bool = False

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context", "n_layers", "d_model", "d_head"):
            require(getattr(self, name) >= 1, f"model.{name}", getattr(self, name), "at least 1")
        for name in ("d_mlp", "n_heads", "d_position"):
            require(getattr(self, name) >= 0, f"model.{name}", getattr(self, name), "at least 0")
        for name, choices in _CHOICES.items():
            require_choice(f"model.{name}", getattr(self, name), choices)
        if self.d_mlp == 0:
            object.__setattr__(self, "d_mlp", 4 * self.d_model)
        self._settle_heads()
        self._check_positions()
        self._check_bigram()
        self._check_top_k()

    def _settle_heads(self) -> None:
        if self.n_heads:
            return
        if self.d_model % self.d_head:
            fitting = [d for d in range(1, self.d_model + 1) if self.d_model % d == 0]
            closest = min(fitting, key=lambda d: abs(d - self.d_head))
            raise InputError(
                f"model.d_head: {self.d_head} does not divide model.d_model {self.d_model}; "
                f"valid: {closest}, or set model.n_heads"
            )
        object.__setattr__(self, "n_heads", self.d_model // self.d_head)

    def _check_positions(self) -> None:
        if self.concatenates_positions:
            valid = f"at least 1 with model.positions {self.positions!r}"
            require(self.d_position >= 1, "model.d_position", self.d_position, valid)
        else:
            valid = f"0 with model.positions {self.positions!r}"
            require(self.d_position == 0, "model.d_position", self.d_position, valid)

    def _check_bigram(self) -> None:
        rank = self.bigram_table_rank
        if rank is None:
            return
        require(self.bigram != "none", "model.bigram_table_rank", rank, "None with model.bigram 'none'")
        valid = f"None for a whole table, or 1 to model.vocab_size {self.vocab_size}"
        require(1 <= rank <= self.vocab_size, "model.bigram_table_rank", rank, valid)

    def _check_top_k(self) -> None:
        for site in self.topk_sites:
            require_choice("model.topk_sites", site, sites.TOPK_SITES)
        fraction = self.activation_fraction
        if fraction is None:
            return
        require(0 < fraction <= 1, "model.activation_fraction", fraction, "None, or in (0, 1]")
        for site in self.topk_sites:
            width = sites.width(self, site)
            if int(fraction * width) < 1:
                raise InputError(
                    f"model.activation_fraction: {fraction} of the {width} channels of {site!r} "
                    f"keeps none; valid: at least {1 / width:.6g}"
                )

    @property
    def concatenates_positions(self) -> bool:
        """Whether every block reads position channels beside the residual stream."""
        return self.positions in ("concatenated", "sinusoidal")

    @property
    def d_block_input(self) -> int:
        """Channels that a block reads: the residual stream and the position channels."""
        return self.d_model + self.d_position

    @property
    def d_attention(self) -> int:
        """Channels of q, k and v: heads times head width."""
        return self.n_heads * self.d_head

    @property
    def frozen(self) -> tuple[str, ...]:
        """Patterns of the leaves that training must leave alone (buffers, not parameters)."""
        fixed = ["logit_bias"]
        if self.positions == "sinusoidal":
            fixed.append("position/kernel")
        if self.bigram == "fixed":
            fixed.append("bigram/.*")
        return tuple(fixed)

    @property
    def told(self) -> dict[str, object]:
        """The fields by name, but for those that later versions added and that are at their default: what
        was hashed before a field was there is found again."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: v for name, v in values.items() if name not in _ADDED or v != _ADDED[name]}

    def __repr__(self) -> str:
        return f"ModelConfig({', '.join(f'{name}={value!r}' for name, value in self.told.items())})"

    def kept(self, site: str) -> int | None:
        """How many channels AbsTopK keeps at `site`; None where it does not act."""
        if self.activation_fraction is None or site not in self.topk_sites:
            return None
        return int(self.activation_fraction * sites.width(self, site))


# Fields that the first models did not have, with the value that changes nothing.
_ADDED = {"bigram_table_rank": None}
_CHOICES = {
    "activation": ACTIVATIONS,
    "bigram": BIGRAMS,
    "compute_dtype": COMPUTE_DTYPES,
    "norm": NORMS,
    "positions": POSITIONS,
    "residual_activation": RESIDUAL_ACTIVATIONS,
}
