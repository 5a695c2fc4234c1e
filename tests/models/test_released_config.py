"""beeg_config.json: every field means what the reference means by it, or is refused."""

import dataclasses

import pytest

from sparse_jax.inputs import InputError
from sparse_jax.models.released_config import read_released_config, write_released_config

LEAST = {"block_size": 8, "vocab_size": 10, "n_layer": 1, "n_head": 2, "d_model": 16}


def test_what_is_left_out_has_the_defaults_of_the_reference():
    config = read_released_config(LEAST)
    assert (config.d_mlp, config.d_head, config.norm, config.norm_bias, config.bias) == (
        64,
        8,
        "layer",
        True,
        True,
    )
    assert (config.activation, config.activation_fraction, config.residual_activation) == (
        "gelu",
        None,
        "identity",
    )
    assert config.topk_sites == ("attn_in", "attn_out", "mlp_in", "mlp_out")
    assert (config.attention_sink, config.bigram, config.tied_embedding) == (False, "none", True)
    assert (config.positions, config.d_position) == ("added", 0)


@pytest.mark.parametrize(
    "fields, found",
    [
        ({"n_mlp": 40}, {"d_mlp": 40}),
        ({"n_mlp": 40, "d_mlp": 40}, {"d_mlp": 40}),
        ({"n_mlp": 40, "d_mlp": None}, {"d_mlp": 40}),
        ({"d_head": 4}, {"d_head": 4, "n_heads": 2}),
        ({"d_head": None, "d_mlp": None}, {"d_head": 8, "d_mlp": 64}),
        ({"rms_norm": True, "ln_bias": False}, {"norm": "rms", "norm_bias": False}),
        ({"enable_bigram_table": True}, {"bigram": "fixed"}),
        ({"enable_bigram_table": True, "learnable_bigram_table": True}, {"bigram": "learned"}),
        ({"learnable_bigram_table": True}, {"bigram": "none"}),
        ({"enable_bigram_table": True, "bigram_table_rank": 8, "pfrac": 0.1}, {"bigram": "fixed"}),
        ({"n_embd": 16}, {"d_model": 16}),
        ({"d_pos_emb": 4}, {"positions": "concatenated", "d_position": 4}),
        ({"d_pos_emb": 4, "sinusoidal_cat_pos_emb": True}, {"positions": "sinusoidal"}),
        ({"afrac": 0.5, "afrac_loctypes": "mlp_neuron,attn_q"}, {"topk_sites": ("mlp_neuron", "q")}),
        (
            {"afrac": 1, "afrac_loctypes": "resid_post_attn,resid_post_mlp"},
            {"activation_fraction": 1.0, "topk_sites": ("resid_mid", "resid_out")},
        ),
        ({"afrac_loctypes": ""}, {"topk_sites": ()}),
        (
            {"flash": False, "grad_checkpointing": True, "debug_nans": True, "dropout": 0.1, "sink": True}
            | {"enable_sparse_kernels": True, "use_tied_aux_matrix": False, "dropout_cat_pos_emb": True},
            {"attention_sink": True},
        ),
    ],
)
def test_fields_mean_what_the_reference_means(fields, found):
    config = dataclasses.asdict(read_released_config({**LEAST, **fields}))
    assert {name: config[name] for name in found} == found


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"colour": 1}, "beeg_config.colour: unknown field"),
        ({"blok_size": 1}, "did you mean 'block_size'"),
        ({"use_tied_aux_matrix": True}, "use_tied_aux_matrix: True is not valid; valid: false"),
        ({"n_mlp": 40, "d_mlp": 48}, "n_mlp: 40 contradicts d_mlp 48"),
        ({"n_embd": 8}, "n_embd: 8 contradicts d_model 16"),
        ({"n_head": 3}, "n_head: 3 .*divisor"),
        ({"n_head": 0}, "n_head: 0"),
        ({"d_mlp": 0}, "d_mlp: 0"),
        ({"d_pos_emb": 0}, "d_pos_emb: 0"),
        ({"activation_type": "swish"}, "activation_type: 'swish'"),
        ({"activation_type": "gelu_tanh"}, "activation_type: 'gelu_tanh'"),
        ({"residual_activation_type": "gelu"}, "residual_activation_type: 'gelu'"),
        ({"sinusoidal_cat_pos_emb": True}, "false without d_pos_emb"),
        (
            {"afrac": 0.25, "afrac_loctypes": "attn_in, attn_out"},
            "' attn_out' is unknown; did you mean 'attn_out'",
        ),
        ({"afrac": 0.01}, "keeps none"),
        ({"afrac": "much"}, "afrac: 'much' is a str"),
        ({"sink": 1}, "sink: 1 is a int"),
        ({"bias": None}, "bias: None"),
        ({"n_layer": 2.5}, "n_layer: 2.5"),
        ({"vocab_size": 0}, "vocab_size"),
    ],
)
def test_what_is_unknown_or_not_supported_is_refused(fields, said):
    with pytest.raises(InputError, match=said):
        read_released_config({**LEAST, **fields})


@pytest.mark.parametrize("name", LEAST)
def test_sizes_have_no_default(name):
    fields = {key: value for key, value in LEAST.items() if key != name}
    with pytest.raises(InputError, match=f"beeg_config.{name}: missing"):
        read_released_config(fields)


def test_the_config_of_ours_comes_back(make):
    config = make(positions="concatenated", d_position=3, topk_sites=("v", "attn_in")).config
    written = write_released_config(config, "own")
    assert read_released_config(written) == config
    assert written["tokenizer_name"] == "own"
    assert written["afrac_loctypes"] == "attn_v,attn_in"
