"""Tokenizers as a vocabulary and merges, against an encoder by hand, and what AutoTokenizer is told."""

import dataclasses
import json

import pytest
from tokenizers import Tokenizer

from sparse_jax.data.tokenizer import END_OF_TEXT, SPLIT_PATTERN, train_tokenizer
from sparse_jax.inputs import InputError
from sparse_jax.models.compact import read_compact, write_compact
from sparse_jax.models.formats import load_model, save_model
from sparse_jax.models.hugging_face import read_hugging_face, write_hugging_face
from sparse_jax.models.released import write_released
from sparse_jax.models.tokenizer_files import PAIRS, read_tokenizer
from tests.models.tokenizers_by_hand import ODD, TEXTS, ascii_pieces, encode, trained, write_pair

OURS = r"[^\r\nA-Za-z0-9]?[A-Za-z]+|[0-9]{1,3}| ?[^\sA-Za-z0-9]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+"


@pytest.mark.parametrize("names", PAIRS)
@pytest.mark.parametrize("split, ascii_split", [(SPLIT_PATTERN, OURS), (None, GPT2)])
def test_a_vocabulary_and_merges_give_the_ids_of_an_encoder_by_hand(tmp_path, names, split, ascii_split):
    ids = write_pair(tmp_path, names, end=True)
    tokenizer = read_tokenizer(tmp_path, split)
    for text in [text for text in (*ODD, *TEXTS[:3]) if text.isascii()]:
        wanted = encode(ids, trained()[1], ascii_pieces(text, ascii_split))
        assert tokenizer.encode(text).ids == wanted, text
    for text in ODD:
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_the_two_ways_to_split_give_other_ids(tmp_path):
    write_pair(tmp_path, PAIRS[0], end=True)
    released, gpt2 = read_tokenizer(tmp_path, SPLIT_PATTERN), read_tokenizer(tmp_path)
    assert released.encode("((name(x, y)))").ids != gpt2.encode("((name(x, y)))").ids


def test_the_released_vocabulary_may_leave_its_last_token_out(tmp_path):
    ids = write_pair(tmp_path, PAIRS[0], end=False)
    tokenizer = read_tokenizer(tmp_path, SPLIT_PATTERN)
    assert tokenizer.token_to_id(END_OF_TEXT) == len(ids) - 1 > 0
    assert tokenizer.encode(f"x{END_OF_TEXT}").ids[-1] == len(ids) - 1


def test_a_released_directory_has_its_tokenizer_and_is_saved_with_it(tmp_path, make):
    write_released(make(vocab_size=370), tmp_path / "released")
    write_pair(tmp_path / "released", PAIRS[0], end=False)
    model = load_model(tmp_path / "released")
    assert model.origin == str(tmp_path / "released")
    for kind in ("compact", "openai", "hf"):
        save_model(model, tmp_path / kind, kind)
        assert not (tmp_path / kind / "encoder.json").exists()
        saved = Tokenizer.from_file(str(tmp_path / kind / "tokenizer.json"))
        for text in ODD:
            assert saved.encode(text).ids == model.tokenizer.encode(text).ids
    pieces = [piece for piece, _ in model.tokenizer.pre_tokenizer.pre_tokenize_str("1234 don't")]
    assert pieces == ["123", "4", "Ġdon", "'t"]


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("vocab.bpe", None, "vocab.bpe: cannot be read"),
        ("encoder.json", None, "encoder.json: cannot be read"),
        ("encoder.json", "[]", "encoder.json: contains a list"),
        ("encoder.json", '{"a": "b"}', r"encoder.json\['a'\]: 'b'"),
        ("encoder.json", '{"a": 0, "b": 0}', "two tokens have one id"),
        ("encoder.json", '{"a": 0}', "a token for each of the 256 bytes"),
        ("vocab.bpe", "#version: 0.2\na b c\n", "line 2: 'a b c'"),
        ("vocab.bpe", "#version: 0.2\nzq qz\n", "vocab.bpe: does not fit encoder.json"),
        ("added_tokens.json", "{}", "added_tokens.json: not supported"),
        ("tokenizer_config.json", '{"add_prefix_space": true}', "add_prefix_space: True is not valid"),
        ("tokenizer_config.json", '{"eos_token": 3}', "eos_token: 3 is not valid; valid: a text"),
    ],
)
def test_what_is_wrong_with_the_files_is_named(tmp_path, name, content, said):
    write_pair(tmp_path, PAIRS[0], end=True)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=said):
        read_tokenizer(tmp_path, SPLIT_PATTERN)


def json_of(path):
    return json.loads(path.read_text())


def test_what_is_exported_tells_auto_tokenizer_which_class_and_tokens_it_has(tmp_path, make):
    model = dataclasses.replace(make(vocab_size=360), tokenizer=train_tokenizer(TEXTS, 360))
    write_hugging_face(model, tmp_path / "out")
    assert json_of(tmp_path / "out" / "tokenizer_config.json") == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": model.config.context,
        "clean_up_tokenization_spaces": False,
        "eos_token": END_OF_TEXT,
    }
    fields = json_of(tmp_path / "out" / "config.json")
    assert (fields["bos_token_id"], fields["eos_token_id"]) == (None, 0)


DENSE = {"norm": "layer", "positions": "added", "activation_fraction": None, "tied_embedding": True,
         "activation": "gelu_tanh", "bigram": "none", "attention_sink": False, "n_heads": 4}  # fmt: skip


@pytest.fixture
def gpt2(make):
    """Makes a model of ours that is a GPT-2."""

    def model(vocab_size):
        found = make(vocab_size=vocab_size, **DENSE)
        found.params["logit_bias"][:] = 0
        return found

    return model


@pytest.mark.parametrize("way", ["at once", "through our own format"])
@pytest.mark.parametrize("named", ["tokenizer_config.json", "special_tokens_map.json", None])
def test_first_and_end_tokens_of_the_source_are_kept(tmp_path, gpt2, way, named):
    source = tmp_path / "source"
    write_hugging_face(gpt2(370), source)
    end = write_pair(source, PAIRS[1], end=True)[END_OF_TEXT]
    if named:
        tokens = {"bos_token": END_OF_TEXT, "eos_token": {"content": END_OF_TEXT}, "unk_token": END_OF_TEXT}
        (source / named).write_text(json.dumps({**tokens, "pad_token": None}))
    config = json_of(source / "config.json")
    assert config["model_type"] == "gpt2"
    (source / "config.json").write_text(json.dumps({**config, "bos_token_id": end, "eos_token_id": [end, 5]}))
    model = read_hugging_face(source)
    if way != "at once":
        write_compact(model, tmp_path / "compact")
        model = read_compact(tmp_path / "compact")
        assert model.run is None
    write_hugging_face(model, tmp_path / "out")
    fields = json_of(tmp_path / "out" / "config.json")
    assert (fields["bos_token_id"], fields["eos_token_id"]) == (end, [end, 5])
    told = json_of(tmp_path / "out" / "tokenizer_config.json")
    wanted = {"bos_token", "eos_token", "unk_token"} if named else {"bos_token"}
    assert {name for name in told if told[name] == END_OF_TEXT} == wanted


@pytest.mark.parametrize("value", ["0", -1, True, [0, None]])
def test_an_id_that_is_none_is_refused(tmp_path, make, value):
    write_hugging_face(make(), tmp_path / "out")
    path = tmp_path / "out" / "config.json"
    path.write_text(json.dumps({**json_of(path), "eos_token_id": value}))
    with pytest.raises(InputError, match="config.eos_token_id: "):
        read_hugging_face(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["make", "gpt2"])
def test_auto_tokenizer_gives_the_same_ids(tmp_path, request, kind):
    transformers = pytest.importorskip("transformers")
    model = dataclasses.replace(
        request.getfixturevalue(kind)(vocab_size=360), tokenizer=train_tokenizer(TEXTS, 360)
    )
    write_hugging_face(model, tmp_path / "out")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in ODD:
        assert theirs(text)["input_ids"] == model.tokenizer.encode(text).ids, text
        assert theirs.decode(theirs(text)["input_ids"]) == text
    assert theirs.eos_token_id == 0 and theirs.model_max_length == model.config.context
