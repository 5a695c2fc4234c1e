"""The tokenizer beside a model: `tokenizer.json`, or byte-level BPE as a vocabulary and a list of merges.

Also what Hugging Face's libraries want to know of it: `tokenizer_config.json`, without which they split text
as GPT-2 does, and the ids of the first and the end token.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers

from sparse_jax.data.tokenizer import END_OF_TEXT, byte_level, load_tokenizer, save_tokenizer
from sparse_jax.files import read_json_object, write_whole
from sparse_jax.inputs import InputError, first_line, require

TOKENIZER, CONFIG = "tokenizer.json", "tokenizer_config.json"
# Vocabulary and merges, under the names of OpenAI's releases and of Hugging Face.
PAIRS = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))
TOKENS = ("bos_token", "eos_token", "unk_token")
IDS = {"bos_token_id": "bos_token", "eos_token_id": "eos_token"}


def read_tokenizer(directory: Path, split: str | None = None) -> Tokenizer | None:
    """The tokenizer in `tokenizer.json` there, else of one of PAIRS, else None.

    split: the pattern by which a tokenizer of PAIRS splits text (its files do not say it); None for GPT-2's.
    Raises InputError for a file that is damaged, or that is there without the other of its pair.
    """
    if (directory / TOKENIZER).exists():
        return load_tokenizer(directory / TOKENIZER)
    for pair in PAIRS:
        vocabulary, merges = (directory / name for name in pair)
        if vocabulary.exists() or merges.exists():
            return _read_pair(vocabulary, merges, split)
    return None


def write_tokenizer(tokenizer: Tokenizer | None, directory: Path) -> None:
    """Writes it beside a model, unless it is None."""
    if tokenizer is not None:
        save_tokenizer(tokenizer, directory / TOKENIZER)


def _read_pair(vocabulary: Path, merges: Path, split: str | None) -> Tokenizer:
    added = vocabulary.with_name("added_tokens.json")
    if added.exists():
        raise InputError(f"{added}: not supported beside {vocabulary.name}; valid: a {TOKENIZER} with them")
    told = vocabulary.with_name(CONFIG)
    spaced = read_json_object(told).get("add_prefix_space") if told.exists() else None
    require(not spaced, f"{told}: add_prefix_space", spaced, f"false beside {vocabulary.name}")
    ids = read_json_object(vocabulary)
    for token, number in ids.items():
        require(type(number) is int and number >= 0, f"{vocabulary}[{token!r}]", number, "an id from 0")
    if len(set(ids.values())) < len(ids):
        raise InputError(f"{vocabulary}: two tokens have one id; valid: an id for each")
    for byte in sorted(pre_tokenizers.ByteLevel.alphabet()):
        if byte not in ids:
            raise InputError(f"{vocabulary}: {byte!r} is missing; valid: a token for each of the 256 bytes")
    if vocabulary.name == "encoder.json":  # there it may be left out, and is the last one
        ids.setdefault(END_OF_TEXT, max(ids.values()) + 1)
    special = {END_OF_TEXT, *map(str, read_special_tokens(vocabulary.parent, {}).values())}
    try:
        model = models.BPE(vocab=ids, merges=_read_merges(merges))
    except InputError:
        raise
    except Exception as error:  # the library raises plain Exception for whatever is wrong
        raise InputError(f"{merges}: does not fit {vocabulary.name} ({first_line(error)})") from None
    tokenizer = byte_level(model, split)
    tokenizer.add_special_tokens(sorted(special & ids.keys()))
    return tokenizer


def _read_merges(path: Path) -> list[tuple[str, str]]:
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); valid: a line for each pair of tokens") from None
    found = []
    for number, line in enumerate(lines, start=1):
        if number == 1 and (line.startswith("#version") or not line):
            continue
        parts = line.rstrip("\r").split(" ")
        if len(parts) != 2 or not all(parts):
            raise InputError(
                f"{path}: line {number}: {line[:80]!r} is not valid; valid: two tokens and a space"
            )
        found.append((parts[0], parts[1]))
    return found


def read_special_tokens(directory: Path, fields: Mapping[str, object]) -> dict[str, object]:
    """TOKENS as `tokenizer_config.json` or `special_tokens_map.json` name them, IDS as `config.json` does.

    fields: of `config.json`. What a directory does not say is absent; an id that it says to be none is None.
    Raises InputError for a value that is neither.
    """
    found: dict[str, object] = {}
    for name in ("special_tokens_map.json", CONFIG):
        path = directory / name
        for token, value in (read_json_object(path) if path.exists() else {}).items():
            text = value.get("content") if isinstance(value, dict) else value
            if token in TOKENS and text is not None:
                require(isinstance(text, str), f"{path}: {token}", text, "a text")
                found[token] = text
    for name in IDS:
        if name in fields:
            value = fields[name]
            ids = value if isinstance(value, list) else [0 if value is None else value]
            fits = all(type(one) is int and one >= 0 for one in ids)
            require(fits, f"config.{name}", value, "a token id, a list of them, or null")
            found[name] = value
    return found


def special_ids(special: Mapping[str, object], tokenizer: Tokenizer | None) -> dict[str, object]:
    """IDS for a `config.json`: as the source had them, else those of its tokens.

    A model that was made here ends a text with END_OF_TEXT and begins it with nothing.
    """
    tokens = _tokens(special, tokenizer)
    found: dict[str, object] = {}
    for name, token in IDS.items():
        number = tokenizer.token_to_id(tokens[token]) if tokenizer and token in tokens else None
        found[name] = special.get(name, number)
    return found


def write_tokenizer_config(
    special: Mapping[str, object], tokenizer: Tokenizer | None, context: int, directory: Path
) -> None:
    """Writes `tokenizer_config.json`, by which AutoTokenizer gives the ids of `tokenizer`.

    Writes nothing if that is None.
    """
    if tokenizer is not None:
        fields = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": context,
            "clean_up_tokenization_spaces": False,
            **_tokens(special, tokenizer),
        }
        write_whole(directory / CONFIG, json.dumps(fields, indent=1))


def _tokens(special: Mapping[str, object], tokenizer: Tokenizer | None) -> dict[str, str]:
    """TOKENS by their texts, if they are special to the tokenizer; naming another one would change ids."""
    if tokenizer is None:
        return {}
    own = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    named = {name: special[name] for name in TOKENS if name in special}
    for name, token in IDS.items():
        number = special.get(name)
        if token not in named and isinstance(number, int):
            named[token] = tokenizer.id_to_token(number)
    if not special:
        named["eos_token"] = END_OF_TEXT
    return {name: str(text) for name, text in named.items() if text in own}
