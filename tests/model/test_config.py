"""Choices of the architecture that cannot work are refused by name."""

import pytest

from sparse_jax.inputs import InputError, from_mapping
from sparse_jax.model.config import ModelConfig


def build(**fields):
    return from_mapping(ModelConfig, {"vocab_size": 32, "d_model": 32, "d_head": 8, **fields}, "model")


def test_widths_that_are_left_open_are_filled_in():
    config = build()
    assert (config.d_mlp, config.n_heads, config.d_attention) == (128, 4, 32)
    assert config.kept("mlp_neuron") == 32 and config.kept("q") == 8
    assert build(activation_fraction=None).kept("q") is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"n_layres": 2}, "model.n_layres: unknown field; did you mean 'n_layers'?"),
        ({"n_layers": "2"}, "model.n_layers: '2' is a str; valid: int"),
        ({"n_layers": 0}, "model.n_layers: 0 is not valid; valid: at least 1"),
        ({"d_head": 12}, "model.d_head: 12 does not divide model.d_model 32; valid: 8"),
        ({"activation": "gleu"}, "model.activation: 'gleu' is unknown; did you mean 'gelu'?"),
        ({"topk_sites": ("q ", "k")}, "model.topk_sites: 'q ' is unknown; "),
        ({"activation_fraction": 0.001}, "keeps none; valid: at least 0.03125"),
        ({"positions": "concatenated"}, "model.d_position: 0 is not valid; valid: at least 1"),
        ({"d_position": 4}, "model.d_position: 4 is not valid; valid: 0 with"),
        ({"bias": 1}, "model.bias: 1 is a int; valid: bool"),
        (
            {"bigram_table_rank": 33},
            "model.bigram_table_rank: 33 is not valid; valid: None for a whole table, ",
        ),
        ({"bigram_table_rank": 0}, "or 1 to model.vocab_size 32"),
        ({"bigram_table_rank": 8, "bigram": "none"}, "valid: None with model.bigram 'none'"),
        ({"bigram_table_rank": 8.0}, "model.bigram_table_rank: 8.0 is a float; valid: int or NoneType"),
    ],
)
def test_what_cannot_work_is_named(fields, said):
    with pytest.raises(InputError) as error:
        build(**fields)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_field_is_named():
    with pytest.raises(InputError, match="model.vocab_size: missing"):
        from_mapping(ModelConfig, {}, "model")


def test_buffers_are_frozen():
    assert build(bigram="fixed", positions="sinusoidal", d_position=4).frozen == (
        "logit_bias",
        "position/kernel",
        "bigram/.*",
    )
