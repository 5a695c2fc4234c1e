import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_jax.data.corpus import Corpus, SourceTokens
from sparse_jax.data.loader import Windows, train_loader, validation_windows
from sparse_jax.inputs import InputError

CONTEXT = 8


def corpus(**sources):
    """Sources of (number of tokens, weight); the tokens of each count up from its own hundred thousand."""
    tokens = {
        name: np.arange(length, dtype=np.uint32) + 100_000 * (i + 1)
        for i, (name, (length, _)) in enumerate(sources.items())
    }
    return Corpus(
        tokenizer=None,
        sources={name: SourceTokens(train, train[:0]) for name, train in tokens.items()},
        weights={name: weight for name, (_, weight) in sources.items()},
        fingerprint="",
        reports={},
    )


def batches(loader, count):
    return np.stack([next(loader)["tokens"] for _ in range(count)])


@given(st.integers(0, 100), st.integers(1, 20))
def test_windows_make_up_the_text(length, context):
    tokens = np.arange(length)
    if length <= context:
        with pytest.raises(InputError, match=f"^here: {length} tokens are less than {context} \\+ 1"):
            Windows(tokens, context, "here")
        return
    windows = Windows(tokens, context, "here")
    rows = [windows[i] for i in range(len(windows))]
    assert {len(row) for row in rows} == {context + 1}
    covered = np.concatenate([rows[0][:1], *(row[1:] for row in rows)])
    np.testing.assert_array_equal(covered, tokens[: len(covered)])
    assert length - len(covered) < context  # no further window fits
    for one, other in zip(rows, rows[1:]):
        assert one[-1] == other[0]


def test_a_batch():
    batch = next(train_loader(corpus(a=(1000, 1.0)), 4, CONTEXT, seed=0))["tokens"]
    assert batch.shape == (4, CONTEXT + 1) and batch.dtype == np.int32
    np.testing.assert_array_equal(np.diff(batch, axis=1), 1)
    assert np.all((batch[:, 0] - 100_000) % CONTEXT == 0)


def test_every_epoch_has_every_window_once_in_another_order():
    windows = 120
    loader = train_loader(corpus(a=(windows * CONTEXT + 1, 1.0)), 10, CONTEXT, seed=3)
    first, second = (batches(loader, windows // 10).reshape(-1, CONTEXT + 1)[:, 0] for _ in range(2))
    expected = 100_000 + CONTEXT * np.arange(windows)
    np.testing.assert_array_equal(np.sort(first), expected)
    np.testing.assert_array_equal(np.sort(second), expected)
    assert not np.array_equal(first, expected) and not np.array_equal(first, second)


def test_a_batch_may_reach_into_the_next_epoch():
    loader = train_loader(corpus(a=(7 * CONTEXT + 1, 1.0)), 5, CONTEXT, seed=3)
    starts = batches(loader, 7).reshape(5, 7, CONTEXT + 1)[:, :, 0]  # 7 batches of 5 are 5 epochs of 7
    for epoch in starts:
        assert len(set(epoch)) == 7


@pytest.mark.parametrize("rows", [range(8), range(4, 8), [2], [0, 1, 6, 7]])
def test_the_batch_does_not_depend_on_who_reads_which_rows(rows):
    text = corpus(a=(3000, 2.0), b=(500, 1.0))
    whole = batches(train_loader(text, 8, CONTEXT, seed=5), 30)
    np.testing.assert_array_equal(batches(train_loader(text, 8, CONTEXT, 5, rows), 30), whole[:, list(rows)])


def test_a_process_reads_only_its_own_rows():
    class Counting(np.ndarray):
        reads = 0

        def __getitem__(self, item):
            Counting.reads += isinstance(item, slice)
            return super().__getitem__(item)

    text = corpus(a=(3000, 1.0))
    watched = text.sources["a"].train.view(Counting)
    text = dataclasses.replace(text, sources={"a": SourceTokens(watched, watched)})
    loader = train_loader(text, 8, CONTEXT, 5, range(2, 4))
    batches(loader, 10)
    assert 20 <= Counting.reads <= 20 + 2 * 8  # two rows a batch, and what is read ahead


def test_it_resumes_at_the_step_in_any_number_of_processes():
    text = corpus(a=(3000, 2.0), b=(500, 1.0))
    loader = train_loader(text, 8, CONTEXT, seed=5)
    batches(loader, 13)
    state = loader.get_state()
    assert state == {"next_index": 13}
    expected = batches(loader, 20)
    fresh = train_loader(text, 8, CONTEXT, seed=5)
    fresh.set_state(state)
    np.testing.assert_array_equal(batches(fresh, 20), expected)
    used = train_loader(text, 8, CONTEXT, 5, range(4, 8))
    batches(used, 40)
    used.set_state({"next_index": 13})
    np.testing.assert_array_equal(batches(used, 20), expected[:, 4:])


def test_the_mixture_follows_the_weights():
    loader = train_loader(corpus(a=(50_000, 0.7), b=(300, 0.25), c=(900, 0.05)), 20, CONTEXT, seed=0)
    source = batches(loader, 150)[:, :, 0] // 100_000
    shares = [np.mean(source == i) for i in (1, 2, 3)]
    np.testing.assert_allclose(shares, [0.7, 0.25, 0.05], rtol=0.02)
    first = [np.mean(source[:10] == i) for i in (1, 2, 3)]  # from the start, not only in the long run
    np.testing.assert_allclose(first, [0.7, 0.25, 0.05], atol=0.01)


def test_a_source_of_weight_zero_is_never_trained_on():
    loader = train_loader(corpus(a=(1000, 1.0), b=(1000, 0.0)), 10, CONTEXT, seed=0)
    assert np.all(batches(loader, 50) // 100_000 == 1)


def test_the_seed_decides():
    text = corpus(a=(3000, 1.0))
    one, same, other = (batches(train_loader(text, 8, CONTEXT, seed), 5) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_sources_of_equal_length_are_shuffled_differently():
    """Else their windows would always meet the same neighbors."""
    loader = train_loader(corpus(a=(3201, 1.0), b=(3201, 1.0)), 20, CONTEXT, seed=0)
    starts = batches(loader, 40).reshape(-1, CONTEXT + 1)[:, 0]
    a, b = (starts[starts // 100_000 == i] % 100_000 for i in (1, 2))
    assert len(a) == len(b) == 400
    assert np.mean(a == b) < 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, CONTEXT, 0), r"^batch_size: 0 "),
        ((8, 0, 0), r"^context: 0 "),
        ((8, 1000, 0), r"^data\.sources\.a: 1000 tokens are less than 1000 \+ 1"),
        ((8, CONTEXT, -1), r"^seed: -1 "),
        ((8, CONTEXT, 0, [7, 8]), r"^rows: \[7, 8\] is not valid; valid: one or more of 0 to 7"),
        ((8, CONTEXT, 0, []), r"^rows: \[\] "),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        train_loader(corpus(a=(1000, 1.0)), *arguments)


def test_validation_windows_are_spread_evenly_and_stay():
    tokens = np.arange(1001, dtype=np.uint16)
    windows = validation_windows(tokens, 5, 10)
    assert windows.shape == (5, 11) and windows.dtype == np.int32
    np.testing.assert_array_equal(windows[:, 0], [0, 200, 400, 600, 800])
    np.testing.assert_array_equal(np.diff(windows, axis=1), 1)
    np.testing.assert_array_equal(windows, validation_windows(tokens, 5, 10))


def test_few_validation_windows_come_again_equally_often():
    windows = validation_windows(np.arange(31), 6, 10)
    np.testing.assert_array_equal(windows[:, 0], [0, 0, 10, 10, 20, 20])


@pytest.mark.parametrize(("tokens", "count"), [(10, 4), (100, 0)])
def test_validation_windows_that_cannot_be(tokens, count):
    with pytest.raises(InputError):
        validation_windows(np.arange(tokens), count, 10)
