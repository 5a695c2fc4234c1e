"""Byte-level BPE as a vocabulary and merges, and an encoder without a library: the rank of a pair decides."""

import json
import re
from pathlib import Path

from tokenizers import pre_tokenizers

from sparse_jax.data.tokenizer import END_OF_TEXT, train_tokenizer

TEXTS = [f"def name_{i}(x, y):\n    return x + y * {i}  # it's the sum\n" for i in range(40)]
ODD = (
    "", " ", "  ", "\n", "\n\n  \n", "\t\tx", "x = 1", "don't we'll I'M", "123456789", "a1b2", "é",
    "naïve café", "日本語のテキスト", "🙂🙃", "\u200b\ufeff", "a\r\nb\r", "((name(x, y)))", "x+=1;//",
    "   trailing   ", "__init__", 'f"{x!r:>10}"', "e\u0301", "<|endoftext|>", "a<|endoftext|>b",
    "Ⅷ ½ ²", "word" * 30,
)  # fmt: skip


def trained() -> tuple[dict[str, int], list[list[str]]]:
    """A vocabulary in the order of the released one (bytes, merges, end of text) and its merges."""
    model = json.loads(train_tokenizer(TEXTS, 360).to_str())["model"]
    merges = [list(pair) for pair in model["merges"]]
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}, merges


def write_pair(directory: Path, names: tuple[str, str], end: bool) -> dict[str, int]:
    """Writes both files; end: whether the vocabulary says the end of text. The vocabulary with it."""
    ids, merges = trained()
    whole = {**ids, END_OF_TEXT: len(ids)}
    (directory / names[0]).write_text(json.dumps(whole if end else ids))
    lines = ["#version: 0.2", *map(" ".join, merges)]
    (directory / names[1]).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return whole


def encode(ids: dict[str, int], merges: list[list[str]], pieces: list[str]) -> list[int]:
    """Token ids of pieces of text; in each, the pair that was joined first in training is joined first."""
    rank = {tuple(pair): i for i, pair in enumerate(merges)}
    table = _characters()
    found = []
    for piece in pieces:
        if piece == END_OF_TEXT:
            found.append(ids[END_OF_TEXT])
            continue
        parts = [table[byte] for byte in piece.encode()]
        while len(parts) > 1:
            best = min(range(len(parts) - 1), key=lambda i: rank.get((parts[i], parts[i + 1]), len(rank)))
            if (parts[best], parts[best + 1]) not in rank:
                break
            parts[best : best + 2] = [parts[best] + parts[best + 1]]
        found += [ids[part] for part in parts]
    return found


def _characters() -> dict[int, str]:
    """GPT-2's character for each byte: itself if it can be seen, else one from 256 on."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in seen]
    return {byte: chr(byte) for byte in seen} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


def ascii_pieces(text: str, split: str) -> list[str]:
    """An ASCII text split by a pattern over ASCII, END_OF_TEXT kept whole."""
    found = []
    for part in re.split(f"({re.escape(END_OF_TEXT)})", text):
        found += [part] if part == END_OF_TEXT else re.findall(split, part)
    return found
