"""No result depends on which ids the tokens have, on an end-of-text token, or on what pads a prompt."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_jax import interactive
from sparse_jax.ablation.judge import Judge
from sparse_jax.ablation.score import measure_tasks
from sparse_jax.data.tokenizer import END_OF_TEXT, parse_tokenizer
from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import initialize
from sparse_jax.models.formats import load_model
from sparse_jax.models.means import node_means, program_windows
from sparse_jax.models.model import Model
from sparse_jax.tasks.built_in import TASKS
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.packing import PackedPairs, shortest
from sparse_jax.trees import map_named
from tests.planted import CONFIG, planted_pairs, planted_params

SMALL = Path(__file__).parents[2] / "experiments" / "results" / "small" / "sparse"
AXES_OF_TOKENS = {
    "embed/kernel": (0,),
    "unembed/kernel": (1,),
    "bigram/kernel": (0, 1),
    "logit_bias": (0,),
}


def rolled(model: Model) -> Model:
    """The same model with every token's id one higher; the last has id 0, the end of a text 1."""
    size = model.config.vocab_size
    fields = json.loads(model.tokenizer.to_str())
    fields["model"]["vocab"] = {text: (i + 1) % size for text, i in fields["model"]["vocab"].items()}
    fields["added_tokens"][0]["id"] = 1
    params = map_named(lambda name, x: jnp.roll(x, 1, AXES_OF_TOKENS.get(name, ())), model.params)
    other = dataclasses.replace(model, params=params, tokenizer=parse_tokenizer(json.dumps(fields)))
    assert other.tokenizer.token_to_id(END_OF_TEXT) == 1
    return other


def without_end(model: Model) -> Model:
    """The same model, whose tokenizer has no token for the end of a text."""
    tokenizer = parse_tokenizer(model.tokenizer.to_str().replace(END_OF_TEXT, "<|something|>"))
    assert tokenizer.token_to_id(END_OF_TEXT) is None
    return dataclasses.replace(model, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def trained():
    return load_model(SMALL)


@pytest.fixture(scope="module")
def tiny(trained):
    """Random weights for the same tokens."""
    config = ModelConfig(vocab_size=1024, context=16, n_layers=1, d_model=8, d_head=4)
    params = jax.tree.map(lambda x: 8 * x if x.ndim > 1 else x, initialize(config, jax.random.key(0)))
    return Model(config, params, trained.tokenizer)


def test_tasks_are_measured_the_same_whatever_the_ids(trained, capsys):
    def rows(model):
        names = ("single_double_quote", "for_while", "bracket_brace")
        encode = (3, 0, model.tokenizer, model.config.context)
        return measure_tasks(model, {name: TASKS[name].encode("test", *encode) for name in names}, "test", 3)

    expected = rows(trained)
    for other in (rolled(trained), without_end(trained)):
        for row, wanted in zip(rows(other), expected, strict=True):
            assert row.keys() == wanted.keys() and row["task"] == wanted["task"]
            figures = [name for name, value in wanted.items() if not isinstance(value, str)]
            for name in figures:
                assert row[name] == pytest.approx(wanted[name], rel=1e-3, abs=1e-5), name
            assert len(figures) == 10


def test_windows_and_means_are_the_same_whatever_the_ids(tiny):
    windows = program_windows(tiny.tokenizer, 64, 16)
    ends = int(np.sum(windows == 0))
    assert ends > 2
    moved = program_windows(rolled(tiny).tokenizer, 64, 16)
    np.testing.assert_array_equal(moved, (windows + 1) % 1024)
    bare = program_windows(without_end(tiny).tokenizer, 64, 16)
    np.testing.assert_array_equal(bare.ravel()[: windows.size - ends], windows[windows != 0])
    found = node_means(tiny.config, rolled(tiny).params, moved)
    for site, mean in node_means(tiny.config, tiny.params, windows).items():
        np.testing.assert_allclose(found[site], mean, atol=1e-5, err_msg=site)


def test_sampling_is_the_same_whatever_the_ids(tiny):
    wanted = interactive.generate(tiny, "for item in", 8, temperature=0)
    assert len(wanted) > len("for item in")
    for other in (rolled(tiny), without_end(tiny)):
        assert interactive.generate(other, "for item in", 8, temperature=0) == wanted


def _pairs_of_any_length(rng) -> EncodedPairs:
    """Members with a common beginning of 4 tokens, from 5 to 12 tokens long."""
    tokens = rng.integers(0, 1024, (6, 2, 12), np.int32)
    tokens[:, 1, :4] = tokens[:, 0, :4]
    last = np.sort(rng.permuted(np.arange(4, 12)[None].repeat(6, 0), axis=1)[:, :2]).astype(np.int32)
    return EncodedPairs(tokens, last, rng.integers(0, 1024, (6, 2, 2), np.int32))


def test_nothing_reads_what_pads_a_prompt(tiny):
    """Two ways to pad the same pairs, with tokens drawn at random: all results are the same."""
    config, params, rng = tiny.config, tiny.params, np.random.default_rng(0)
    pairs = _pairs_of_any_length(rng)
    is_padding = np.arange(12) > pairs.last[..., None]
    other = pairs._replace(tokens=np.where(is_padding, 1023 - pairs.tokens, pairs.tokens))
    assert is_padding.any(axis=-1).sum() > 6
    shapes = sites.node_shapes(config, sites.LAYER_SITES)
    gates = {site: (rng.random(shape) < 0.7).astype(np.float32) for site, shape in shapes.items()}
    means = {site: rng.normal(size=shape).astype(np.float32) for site, shape in shapes.items()}

    def results(pairs):
        assert isinstance(shortest(pairs, 16), PackedPairs)
        judge = Judge(config, params, means, pairs, frozen_norms=True)
        return {
            "drawn": dataclasses.replace(judge, ablation="resample+stochastic").logits(gates),
            "constant": judge.logits(gates),
        }

    found, wanted = results(other), results(pairs)
    assert np.ptp(wanted["constant"]) > 0.1
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_pairs_and_windows_of_a_larger_vocabulary_are_refused():
    model, pairs = Model(CONFIG, planted_params()), planted_pairs(4)
    tokens, candidates = pairs.tokens.copy(), pairs.candidates.copy()
    tokens[3, 1, 2], candidates[2, 1, 0] = 8, -1
    valid = "is not valid; valid: token ids 0 to 7"
    with pytest.raises(InputError, match=f"pairs: 'ids 1 to 8' {valid}"):
        measure_tasks(model, {"planted": pairs._replace(tokens=tokens)}, "test")
    with pytest.raises(InputError, match=f"pairs: answers: 'ids -1 to 5' {valid}"):
        measure_tasks(model, {"planted": pairs._replace(candidates=candidates)}, "test")
    with pytest.raises(InputError, match=f"windows: 'ids 2 to 8' {valid}"):
        node_means(model.config, model.params, tokens[:, 1])
