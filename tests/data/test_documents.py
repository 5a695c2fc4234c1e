import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_jax.data.documents import Document, Split, content_hash
from sparse_jax.inputs import InputError


def split(texts, fraction):
    both = Split([Document(text, str(i)) for i, text in enumerate(texts)], fraction)
    return [d.text for d in both.train()], [d.text for d in both.validation()], both.duplicates


@given(st.lists(st.text(max_size=3), max_size=40), st.floats(0.01, 0.99))
def test_every_distinct_text_is_on_exactly_one_side_in_order(texts, fraction):
    distinct = list(dict.fromkeys(texts))
    if len(distinct) < 2:
        with pytest.raises(InputError, match=f"^documents: {len(distinct)} different; valid: at least 2"):
            split(texts, fraction)
        return
    train, validation, duplicates = split(texts, fraction)
    assert train and validation
    assert sorted(train + validation) == sorted(distinct)
    assert duplicates == len(texts) - len(distinct)
    assert train == [text for text in distinct if text in set(train)]


def test_the_fraction_is_held_out():
    train, validation, _ = split([f"text {i}" for i in range(20_000)], 0.1)
    assert abs(len(validation) - 2000) < 4 * (20_000 * 0.1 * 0.9) ** 0.5  # four standard deviations


def test_a_text_stays_on_its_side_when_others_come():
    few, many = ([f"text {i}" for i in range(n)] for n in (300, 900))
    train_few, validation_few, _ = split(few, 0.3)
    train_many, validation_many, _ = split(reversed(many), 0.3)
    assert set(train_few) <= set(train_many) and set(validation_few) <= set(validation_many)


@pytest.mark.parametrize("fraction", [1e-15, 1 - 1e-15])
def test_no_side_is_ever_empty(fraction):
    train, validation, _ = split(["one", "other", "third"], fraction)
    assert min(len(train), len(validation)) == 1


def test_the_hash_is_the_same_everywhere():
    """The BLAKE2b of "abc" with 8 bytes of digest, as another implementation (b2sum -l 64) prints it."""
    assert content_hash("abc") == int("d8bb14d833d59559", 16)
