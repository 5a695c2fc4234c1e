"""Converts `beeg_config.json` of released models to our config and back; unsupported fields are refused."""

import dataclasses
from collections.abc import Iterable, Mapping

from sparse_jax.inputs import InputError, from_mapping, require, require_choice
from sparse_jax.model.config import ModelConfig

SITES = {
    "attn_in": "attn_in",
    "attn_q": "q",
    "attn_k": "k",
    "attn_v": "v",
    "attn_out": "attn_out",
    "mlp_in": "mlp_in",
    "mlp_neuron": "mlp_neuron",
    "mlp_out": "mlp_out",
    "resid_post_attn": "resid_mid",
    "resid_post_mlp": "resid_out",
}
# Fields of older files about training; they do not affect the tensors or how they are used.
HISTORY = (
    "afrac_approx", "bigram_table_rank", "debug_exact_topk", "expansion_factor", "expansion_factor_mlp",
    "ignore_dw_grad", "pfrac", "rtopk", "sparse_matmul_impl",
)  # fmt: skip
# Fields of the released upload that the public class lacks; with them off, it computes the same.
OFF = (
    "afrac_approx", "afrac_ste", "afrac_ste_only_non_neurons", "bigram_table_rank", "enable_fp8_linear",
    "mup", "mup_width_multiplier", "rtopk", "scale_invariance", "unembed_rank",
)  # fmt: skip
# Fields that Hugging Face's library adds, which say nothing of the network. Whether the embedding is tied is
# said by `tied_unembed`; the tensors show if that is wrong.
HUB = (
    "_name_or_path", "architectures", "auto_map", "bos_token_id", "chunk_size_feed_forward", "dtype",
    "eos_token_id", "id2label", "is_decoder", "label2id", "model_type", "output_attentions",
    "output_hidden_states", "pad_token_id", "problem_type", "return_dict", "tie_word_embeddings",
    "tokenizer_class", "torch_dtype", "transformers_version", "use_cache",
)  # fmt: skip
# What older files, and that library, call our fields; both may be there if they agree.
OTHER_NAMES = {
    "n_mlp": "d_mlp",
    "n_embd": "d_model",
    "intermediate_size": "d_mlp",
    "hidden_size": "d_model",
    "head_dim": "d_head",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "max_position_embeddings": "block_size",
    "n_positions": "block_size",
}


@dataclasses.dataclass(frozen=True)
class ReleasedConfig:
    """The fields by their names in the file; missing ones have the reference's defaults.

    The last fields are ignored here: they say how attention is computed, or only affect training.
    """

    block_size: int
    vocab_size: int
    n_layer: int
    n_head: int
    d_model: int
    d_head: int | None = None
    d_mlp: int | None = None
    bias: bool = True
    ln_bias: bool = True
    rms_norm: bool = False
    residual_activation_type: str = "identity"
    activation_type: str = "gelu"
    afrac: float | None = None
    afrac_loctypes: str = "attn_in,attn_out,mlp_in,mlp_out"
    tied_unembed: bool = True
    enable_bigram_table: bool = False
    learnable_bigram_table: bool = False
    d_pos_emb: int | None = None
    sinusoidal_cat_pos_emb: bool = False
    sink: bool = False
    tokenizer_name: str = "tinypython_2k"
    dropout: float = 0.0
    dropout_cat_pos_emb: bool = False
    flash: bool = True
    grad_checkpointing: bool = True
    debug_nans: bool = False
    enable_sparse_kernels: bool = False


def read_released_config(mapping: Mapping[str, object], file: str = "beeg_config") -> ModelConfig:
    """The model that a `beeg_config.json` describes; `file` is what errors call it.

    Positions are "added" even if their table is all zero, because only the tensors show that there are none.
    Raises InputError naming a field that is unknown, of the wrong type, contradictory or not supported.
    """
    _refuse_on(mapping, set(OFF) - set(HISTORY), file)
    fields = {name: value for name, value in mapping.items() if name not in (*HISTORY, *OFF)}
    _settle_other_names(fields, file)
    released = from_mapping(ReleasedConfig, fields, file)
    for name in ("residual_activation_type", "activation_type"):
        choices = ("identity" if name.startswith("residual") else "gelu", "relu")
        require_choice(f"{file}.{name}", getattr(released, name), choices)
    valid = f"a divisor of {file}.d_model {released.d_model}"
    fits = released.n_head > 0 and released.d_model % released.n_head == 0
    require(fits, f"{file}.n_head", released.n_head, valid)
    d_head = released.d_model // released.n_head if released.d_head is None else released.d_head
    for name in ("d_mlp", "d_pos_emb"):
        value = getattr(released, name)
        require(value is None or value >= 1, f"{file}.{name}", value, "null, or at least 1")
    return ModelConfig(
        vocab_size=released.vocab_size,
        context=released.block_size,
        n_layers=released.n_layer,
        d_model=released.d_model,
        d_mlp=released.d_mlp or 0,
        d_head=d_head,
        n_heads=released.n_head,
        activation=released.activation_type,
        norm="rms" if released.rms_norm else "layer",
        norm_bias=released.ln_bias,
        bias=released.bias,
        tied_embedding=released.tied_unembed,
        positions=_positions(released, file),
        d_position=released.d_pos_emb or 0,
        residual_activation=released.residual_activation_type,
        attention_sink=released.sink,
        bigram=_bigram(released),
        activation_fraction=released.afrac,
        topk_sites=_topk_sites(released, file),
    )


def read_hub_config(mapping: Mapping[str, object]) -> ModelConfig:
    """The model that the `config.json` of the released upload describes, which has more fields.

    Raises InputError as `read_released_config` does, and for another value of OFF.
    """
    _refuse_on(mapping, OFF, "config")
    return read_released_config({name: value for name, value in mapping.items() if name not in HUB}, "config")


def write_released_config(config: ModelConfig, tokenizer_name: str) -> dict[str, object]:
    """The fields of `beeg_config.json` for our model. Raises InputError if the format cannot express it."""
    require_choice("model.activation", config.activation, ("gelu", "relu"))
    valid = f"a divisor of model.d_model {config.d_model}, as the released format requires"
    require(config.d_model % config.n_heads == 0, "model.n_heads", config.n_heads, valid)
    rank = config.bigram_table_rank
    valid = "None, as the released format asks; the formats compact and safetensors can hold a rank"
    require(rank is None, "model.bigram_table_rank", rank, valid)
    names = {ours: theirs for theirs, ours in SITES.items()}
    released = ReleasedConfig(
        block_size=config.context,
        vocab_size=config.vocab_size,
        n_layer=config.n_layers,
        n_head=config.n_heads,
        d_model=config.d_model,
        d_head=config.d_head,
        d_mlp=config.d_mlp,
        bias=config.bias,
        ln_bias=config.norm_bias,
        rms_norm=config.norm == "rms",
        residual_activation_type=config.residual_activation,
        activation_type=config.activation,
        afrac=config.activation_fraction,
        afrac_loctypes=",".join(names[site] for site in config.topk_sites),
        tied_unembed=config.tied_embedding,
        enable_bigram_table=config.bigram != "none",
        learnable_bigram_table=config.bigram == "learned",
        d_pos_emb=config.d_position or None,
        sinusoidal_cat_pos_emb=config.positions == "sinusoidal",
        sink=config.attention_sink,
        tokenizer_name=tokenizer_name,
        grad_checkpointing=False,
    )
    return dataclasses.asdict(released)


def _refuse_on(fields: Mapping[str, object], names: Iterable[str], file: str) -> None:
    for name in sorted(names):
        value = fields.get(name)
        require(value is None or value is False, f"{file}.{name}", value, "null or false")


def _settle_other_names(fields: dict[str, object], file: str) -> None:
    """Takes out what older files and the upload say in other words."""
    for other, name in OTHER_NAMES.items():
        value = fields.pop(other, None)
        if value is None:
            continue
        if fields.get(name) is None:
            fields[name] = value
        if fields[name] != value:
            raise InputError(f"{file}.{other}: {value!r} contradicts {name} {fields[name]!r}")
    tied = fields.pop("use_tied_aux_matrix", False)
    require(tied is False, f"{file}.use_tied_aux_matrix", tied, "false")


def _positions(released: ReleasedConfig, file: str) -> str:
    if released.d_pos_emb is None:
        sinusoidal = released.sinusoidal_cat_pos_emb
        require(not sinusoidal, f"{file}.sinusoidal_cat_pos_emb", sinusoidal, "false without d_pos_emb")
        return "added"
    return "sinusoidal" if released.sinusoidal_cat_pos_emb else "concatenated"


def _bigram(released: ReleasedConfig) -> str:
    if not released.enable_bigram_table:
        return "none"
    return "learned" if released.learnable_bigram_table else "fixed"


def _topk_sites(released: ReleasedConfig, file: str) -> tuple[str, ...]:
    names = released.afrac_loctypes.split(",") if released.afrac_loctypes else []
    for name in names:
        require_choice(f"{file}.afrac_loctypes", name, SITES)
    return tuple(SITES[name] for name in names)
