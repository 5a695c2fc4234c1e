"""The tokenizer: byte-level BPE over pieces that never join words, numbers, signs and line ends."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from sparse_jax.files import user_path, write_whole
from sparse_jax.inputs import InputError, require

END_OF_TEXT = "<|endoftext|>"  # any id, and tokenizers made elsewhere need not have it
SMALLEST_VOCABULARY = 257  # every byte, and END_OF_TEXT

# METHOD section 4: the pattern of the released tokenizer.
SPLIT_PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def check_vocab_size(vocab_size: int) -> None:
    """Raises InputError for a vocabulary that has no room for every byte."""
    valid = f"at least {SMALLEST_VOCABULARY} (256 bytes and {END_OF_TEXT})"
    require(vocab_size >= SMALLEST_VOCABULARY, "vocab_size", vocab_size, valid)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A tokenizer of at most `vocab_size` tokens (fewer when `texts` have too few pairs to join).

    END_OF_TEXT is id 0, then come the 256 bytes: any text encodes, and decodes to itself.
    Raises InputError if `vocab_size` is too small.
    """
    check_vocab_size(vocab_size)
    tokenizer = byte_level(models.BPE(), SPLIT_PATTERN)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def byte_level(model: models.BPE, split: str | None) -> Tokenizer:
    """A tokenizer of the bytes of text, split by the pattern `split`; None splits it as GPT-2 does."""
    tokenizer = Tokenizer(model)
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)
    if split is None:
        tokenizer.pre_tokenizer = bytes_of
    else:
        pieces = pre_tokenizers.Split(Regex(split), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, bytes_of])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, path: str | os.PathLike) -> None:
    """Writes `tokenizer` as JSON, whole or not at all."""
    write_whole(path, tokenizer.to_str())


def load_tokenizer(path: str | os.PathLike) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`, as `parse_tokenizer` reads it.

    Raises InputError if the file is not there or is something else.
    """
    try:
        text = user_path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"tokenizer: cannot read {str(path)!r} ({error})") from None
    try:
        return parse_tokenizer(text)
    except Exception as error:  # the library raises plain Exception for whatever is wrong
        raise InputError(f"tokenizer: {str(path)!r} is not a tokenizer ({error})") from None


def parse_tokenizer(text: str) -> Tokenizer:
    """The tokenizer that JSON describes. Every tokenizer that is read from anywhere is read here.

    Truncation and padding that were stored with it are switched off: a text has all of its tokens and no
    others. Raises a plain Exception, as the library of tokenizers does, if `text` describes none.
    """
    tokenizer = Tokenizer.from_str(text)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def check_fits(tokenizer: Tokenizer, vocab_size: int) -> None:
    """Raises InputError if the tokenizer has ids past the vocabulary of a model; it may have fewer tokens."""
    size = 1 + max(tokenizer.get_vocab().values(), default=-1)
    if size > vocab_size:
        raise InputError(
            f"tokenizer: {size} ids, 0 to {size - 1}, for a model with a vocabulary of {vocab_size}; "
            f"valid: at most {vocab_size} ids, as in the tokenizer that the model was trained with"
        )


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The token ids of every text. Texts for tasks, means, sampling and training are all encoded here.

    What a post-processor of the tokenizer would add, such as a first token, is never added.
    """
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def end_of_text(tokenizer: Tokenizer) -> list[int]:
    """What stands between two texts: the id of END_OF_TEXT, or nothing if the tokenizer does not have it."""
    found = tokenizer.token_to_id(END_OF_TEXT)
    return [] if found is None else [found]


def encode_documents(tokenizer: Tokenizer, texts: Iterable[str], batch: int = 256) -> Iterator[np.ndarray]:
    """One integer array [tokens] a text, END_OF_TEXT at its end if the tokenizer has it.

    The characters of END_OF_TEXT inside a text are encoded as text: only a real end is an end.
    """
    tokenizer = parse_tokenizer(tokenizer.to_str())  # the switch below is the caller's own
    tokenizer.encode_special_tokens = True
    texts, end = iter(texts), end_of_text(tokenizer)
    while chunk := list(islice(texts, batch)):
        for ids in encode_texts(tokenizer, chunk):
            yield np.array([*ids, *end], np.uint32)
