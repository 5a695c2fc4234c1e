import pytest

from sparse_jax.inputs import InputError, from_mapping
from sparse_jax.sparsity.config import SparsityConfig
from sparse_jax.training.optimizer import OptimizerConfig


@pytest.mark.parametrize(
    "field, value",
    [
        ("fraction", 0.0),
        ("fraction", 1.5),
        ("preset", "papper"),
        ("schedule", "cosine"),
        ("anneal_start", -0.1),
        ("anneal_end", 0.01),
        ("anneal_end", 1.1),
        ("power", 0.0),
        ("min_per_channel", -1),
        ("rules", (("embed/(", 0.5),)),
        ("rules", (("embed/.*", 2.0),)),
        ("rules", (("embed/.*", True),)),
        ("rules", ("embed/.*", 0.5)),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(field, value):
    with pytest.raises(InputError, match=rf"^sparsity\.{field}: "):
        SparsityConfig(**{field: value})


@pytest.mark.parametrize(
    "field, value",
    [
        ("learning_rate", 0.0),
        ("b1", 1.0),
        ("b2", -0.1),
        ("eps", 0.0),
        ("weight_decay", -1.0),
        ("gradient_norm", "clipp"),
        ("warmup", 1.0),
    ],
)
def test_the_optimizer_refuses_too(field, value):
    with pytest.raises(InputError, match=rf"^optimizer\.{field}: "):
        OptimizerConfig(**{field: value})


def test_the_nearest_choice_is_named():
    with pytest.raises(InputError, match="did you mean 'paper'"):
        SparsityConfig(preset="papper")


def test_rules_come_from_a_mapping_of_lists():
    given = {"fraction": 1, "rules": [["embed/.*", 0.5], ["layers/.*", None]]}
    config = from_mapping(SparsityConfig, given, "sparsity")
    assert config.rules == (("embed/.*", 0.5), ("layers/.*", None))
