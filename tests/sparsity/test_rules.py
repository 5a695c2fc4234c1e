import pytest

from sparse_jax.inputs import InputError
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import param_shapes
from sparse_jax.sparsity.config import SparsityConfig
from sparse_jax.sparsity.rules import SparseLeaf, leaf_fractions, sparse_leaves
from tests.sparsity.trees import small_params

PARAMS = small_params()
KERNELS = {f"layers/attn/{n}/kernel" for n in ("q", "k", "v", "out")} | {
    "layers/mlp/up/kernel",
    "layers/mlp/down/kernel",
}
BIASES = {name.replace("kernel", "bias") for name in KERNELS}
EMBEDDINGS = {"embed/kernel", "unembed/kernel"}


def test_paper_preset_is_one_fraction_for_kernels_biases_and_embeddings():
    fractions = leaf_fractions(SparsityConfig(0.5), PARAMS)
    assert set(fractions) == KERNELS | BIASES | EMBEDDINGS
    assert set(fractions.values()) == {0.5}


def test_openai_preset_leaves_biases_dense_and_embeddings_four_times_denser():
    fractions = leaf_fractions(SparsityConfig(0.125, preset="openai"), PARAMS)
    assert fractions == dict.fromkeys(KERNELS, 0.125) | dict.fromkeys(EMBEDDINGS, 0.5)
    assert set(leaf_fractions(SparsityConfig(0.3, preset="openai"), PARAMS)) == KERNELS


def test_fraction_one_is_a_dense_model():
    assert leaf_fractions(SparsityConfig(1.0), PARAMS) == {}


def test_the_first_matching_rule_goes_before_the_preset():
    rules = (("layers/mlp/up/kernel", None), ("layers/mlp/.*", 0.75), ("embed/kernel", 1.0))
    fractions = leaf_fractions(SparsityConfig(0.5, rules=rules), PARAMS)
    assert "layers/mlp/up/kernel" not in fractions and "embed/kernel" not in fractions
    assert fractions["layers/mlp/down/kernel"] == fractions["layers/mlp/down/bias"] == 0.75
    assert fractions["layers/attn/q/kernel"] == 0.5


def test_a_bigram_table_is_dense_as_a_product_too():
    config = ModelConfig(vocab_size=16, n_layers=1, d_model=16, d_head=4, bigram_table_rank=4)
    found = leaf_fractions(SparsityConfig(0.5, rules=((".*", 0.25),)), param_shapes(config))
    assert "embed/kernel" in found and not any(name.startswith("bigram") for name in found)


def test_no_rule_reaches_norms_sinks_positions_bigrams():
    fractions = leaf_fractions(SparsityConfig(0.5, rules=((".*", 0.25),)), PARAMS)
    assert set(fractions) == KERNELS | BIASES | EMBEDDINGS


@pytest.mark.parametrize("pattern", ["layers/mpl/.*", "mlp", "bigram/kernel"])
def test_a_rule_that_decides_about_nothing_is_refused(pattern):
    with pytest.raises(InputError, match=f"^sparsity.rules: '{pattern}' matches no leaf"):
        leaf_fractions(SparsityConfig(0.5, rules=((pattern, 0.1),)), PARAMS)


def test_an_unknown_leaf_is_refused():
    with pytest.raises(InputError, match="adapter/kernel"):
        leaf_fractions(SparsityConfig(0.5), {"adapter": PARAMS["embed"]})


def test_budgets_count_single_matrices_and_channels_lie_along_the_right_axis():
    leaves = sparse_leaves(SparsityConfig(0.6), PARAMS)
    assert leaves["layers/mlp/up/kernel"] == SparseLeaf((2, 8, 16), int(0.6 * 128), -2, 4)
    assert leaves["layers/mlp/down/kernel"] == SparseLeaf((2, 16, 8), int(0.6 * 128), -1, 4)
    assert leaves["layers/attn/v/kernel"] == SparseLeaf((2, 8, 12), int(0.6 * 96), -2, 4)
    assert leaves["layers/attn/out/kernel"] == SparseLeaf((2, 12, 8), int(0.6 * 96), -1, 4)
    assert leaves["layers/mlp/up/bias"] == SparseLeaf((2, 16), 9, None, 0)
    assert leaves["embed/kernel"] == SparseLeaf((1, 10, 8), 48, None, 0)


def test_a_budget_below_the_minimum_names_the_smallest_fraction_that_works():
    """An 8 x 16 up matrix needs 16 neurons x 3 = 48 weights, a fraction of 0.375."""
    rules = (("layers/attn/.*", None), ("layers/mlp/down/.*", None))
    with pytest.raises(InputError, match=r"up/kernel at fraction 0.37 keeps 47 of 128 .* at least 0.375 "):
        sparse_leaves(SparsityConfig(0.37, min_per_channel=3, rules=rules), PARAMS)
    sparse_leaves(SparsityConfig(0.375, min_per_channel=3, rules=rules), PARAMS)
    sparse_leaves(SparsityConfig(0.37, min_per_channel=0, rules=rules), PARAMS)


def test_channels_narrower_than_the_minimum_keep_all_they_have():
    leaves = sparse_leaves(
        SparsityConfig(1.0, rules=(("layers/mlp/up/kernel", 0.99),)), small_params(d_model=8)
    )
    assert leaves["layers/mlp/up/kernel"].protected == 4
    config = SparsityConfig(1.0, min_per_channel=100, rules=(("layers/mlp/up/kernel", 0.99),))
    with pytest.raises(InputError, match="16 channels need 8 each, 128 in all"):
        sparse_leaves(config, PARAMS)


def test_keeping_no_weight_at_all_is_refused():
    with pytest.raises(InputError, match="embed/kernel at fraction 0.01 keeps 0 of 80"):
        sparse_leaves(SparsityConfig(1.0, rules=(("embed/kernel", 0.01),)), PARAMS)
