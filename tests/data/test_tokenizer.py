import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, processors

from sparse_jax.data.simple_python import programs
from sparse_jax.data.tokenizer import (
    END_OF_TEXT,
    check_fits,
    encode_documents,
    encode_texts,
    load_tokenizer,
    parse_tokenizer,
    save_tokenizer,
    train_tokenizer,
)
from sparse_jax.inputs import InputError

TEXTS = list(programs(seed=0, count=300))
TOKENIZER = train_tokenizer(TEXTS, 400)


def encode(text, tokenizer=TOKENIZER):
    return next(encode_documents(tokenizer, [text]))


def pieces(text):
    """What the tokenizer may never join, in the 256 byte letters' own alphabet (space: Ġ, line end: Ċ)."""
    return [piece for piece, _ in TOKENIZER.pre_tokenizer.pre_tokenize_str(text)]


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_comes_back(text):
    ids = encode(text)
    assert ids[-1] == 0
    assert TOKENIZER.decode(ids.tolist()) == text
    assert TOKENIZER.decode(TOKENIZER.encode(text.replace(END_OF_TEXT, "")).ids) == text.replace(
        END_OF_TEXT, ""
    )


def test_programs_come_back_and_get_shorter():
    text = TEXTS[0]
    ids = encode(text)
    assert TOKENIZER.decode(ids.tolist()) == text
    assert len(ids) < 0.6 * len(text)


def test_the_vocabulary_begins_with_the_end_of_text_and_every_byte():
    vocabulary = TOKENIZER.get_vocab()
    assert vocabulary[END_OF_TEXT] == 0
    singles = {id for token, id in vocabulary.items() if len(token) == 1}
    assert singles == set(range(1, 257))
    assert sorted(vocabulary.values()) == list(range(400))


def test_the_smallest_vocabulary_is_bytes():
    tokenizer = train_tokenizer(TEXTS[:10], 257)
    assert len(encode("žluť", tokenizer)) == len("žluť".encode()) + 1


@pytest.mark.parametrize("size", [0, 256])
def test_a_vocabulary_too_small(size):
    with pytest.raises(InputError, match=rf"^vocab_size: {size} is not valid; valid: at least 257"):
        train_tokenizer(TEXTS, size)


def test_merges_by_hand():
    """Pairs of "abab abc" twice: ab 6 times (as ab 4, Ġab 2), then abab 2, Ġab 2, c after it 2."""
    tokenizer = train_tokenizer(["abab abc"] * 2, 259)
    merges = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])[257:]
    assert merges[0] == ("ab", 257)
    assert merges[1][0] in {"abab", "Ġab", "abc"}
    assert train_tokenizer(["ab"] * 2, 1000).get_vocab_size() == 258  # no pair is left to join


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("return x1234", ["return", "Ġx", "123", "4"]),
        ("self.value", ["self", ".value"]),
        ("f('a')\n", ["f", "('", "a", "')Ċ"]),
        ("a  b", ["a", "Ġ", "Ġb"]),
        ("x:\n    y", ["x", ":Ċ", "ĠĠĠ", "Ġy"]),
        ("x\n\n  \ny", ["x", "ĊĊĠĠĊ", "y"]),
        ("a += 1", ["a", "Ġ+=", "Ġ", "1"]),
        ("a // b", ["a", "Ġ//", "Ġb"]),
    ],
)
def test_the_split_pattern(text, expected):
    assert pieces(text) == expected


def test_an_end_of_text_in_a_text_is_text():
    text = f"a{END_OF_TEXT}b"
    ids = encode(text)
    assert list(ids).count(0) == 1 and ids[-1] == 0
    assert TOKENIZER.decode(ids.tolist()) == text
    assert 0 in TOKENIZER.encode(text).ids  # the tokenizer given is not changed: there it is a token


def test_documents_are_encoded_in_order_across_batches():
    texts = ["a" * i for i in range(10)]
    alone = [encode(text) for text in texts]
    together = list(encode_documents(TOKENIZER, iter(texts), batch=3))
    assert len(together) == 10
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("end", [0, 7, 300, None])
def test_documents_end_with_the_end_of_text_whatever_its_id(end):
    fields = json.loads(TOKENIZER.to_str())
    vocabulary = fields["model"]["vocab"]
    if end is None:
        vocabulary["<|something|>"] = vocabulary.pop(END_OF_TEXT)
        fields["added_tokens"] = []
    else:
        other = next(text for text, i in vocabulary.items() if i == end)
        vocabulary[other], vocabulary[END_OF_TEXT] = 0, end
        fields["added_tokens"][0]["id"] = end
    text = f"{TEXTS[1]}{END_OF_TEXT}"
    (ids,) = encode_documents(parse_tokenizer(json.dumps(fields)), [text])
    moved = [0 if i == end else i for i in encode(text)[:-1].tolist()]
    assert ids.tolist() == moved + [end] * (end is not None)


def test_what_is_stored_beside_a_tokenizer_changes_no_text(tmp_path):
    """Truncation and padding are off after loading; a first token is not added."""
    tokenizer = Tokenizer.from_str(TOKENIZER.to_str())
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=50, pad_id=5, pad_token="?")
    tokenizer.post_processor = processors.TemplateProcessing("a $A", special_tokens=[("a", 70)])
    assert tokenizer.encode(TEXTS[1]).ids[:1] == [70] and len(tokenizer.encode(TEXTS[1]).ids) == 50
    tokenizer.save(str(tmp_path / "t.json"))
    loaded = load_tokenizer(tmp_path / "t.json")
    assert encode_texts(loaded, TEXTS[:3]) == [TOKENIZER.encode(text).ids for text in TEXTS[:3]]
    for found, wanted in zip(encode_documents(tokenizer, TEXTS[:3]), encode_documents(TOKENIZER, TEXTS[:3])):
        np.testing.assert_array_equal(found, wanted)


def test_a_tokenizer_fits_a_vocabulary_that_has_all_of_its_ids():
    check_fits(TOKENIZER, 400)
    check_fits(TOKENIZER, 500)
    with pytest.raises(InputError, match=r"tokenizer: 400 ids, 0 to 399, for .* vocabulary of 399; valid:"):
        check_fits(TOKENIZER, 399)
    # ids count, not tokens
    sparse = Tokenizer(models.WordLevel({"a": 0, "b": 9}, unk_token="a"))
    with pytest.raises(InputError, match=r"tokenizer: 10 ids, 0 to 9, for a model with a vocabulary of 9"):
        check_fits(sparse, 9)


def test_training_gives_the_same_in_another_process():
    code = (
        "from sparse_jax.data.simple_python import programs\n"
        "from sparse_jax.data.tokenizer import train_tokenizer\n"
        "print(train_tokenizer(programs(seed=0, count=300), 400).to_str())"
    )
    environment = {**os.environ, "RAYON_NUM_THREADS": "3", "PYTHONHASHSEED": "7", "PYTHONIOENCODING": "utf-8"}
    other = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=True, encoding="utf-8"
    )
    assert other.stdout.strip() == TOKENIZER.to_str()


def test_save_and_load(tmp_path):
    save_tokenizer(TOKENIZER, tmp_path / "t.json")
    assert load_tokenizer(tmp_path / "t.json").to_str() == TOKENIZER.to_str()
    assert os.listdir(tmp_path) == ["t.json"]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    save_tokenizer(TOKENIZER, tmp_path / "t.json")

    def replace(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(InputError, match="t.json: cannot be written .No space left"):
        save_tokenizer(train_tokenizer(TEXTS[:5], 300), tmp_path / "t.json")
    assert os.listdir(tmp_path) == ["t.json"]
    assert load_tokenizer(tmp_path / "t.json").get_vocab_size() == 400


@pytest.mark.parametrize("content", [b"", b"{}", b"no JSON", b"\xff", TOKENIZER.to_str()[:-9].encode()])
def test_a_file_that_is_no_tokenizer(tmp_path, content):
    (tmp_path / "t.json").write_bytes(content)
    with pytest.raises(InputError, match=r"^tokenizer: .*t\.json"):
        load_tokenizer(tmp_path / "t.json")


def test_a_tokenizer_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"^tokenizer: cannot read .*No such file"):
        load_tokenizer(tmp_path / "t.json")


def test_it_survives_as_a_string():
    assert Tokenizer.from_str(TOKENIZER.to_str()).encode(TEXTS[1]).ids == TOKENIZER.encode(TEXTS[1]).ids
