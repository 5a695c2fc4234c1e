"""A corpus whose documents have their tokens in random order, to train a control of a model (METHOD 8)."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sparse_jax.data.token_file import TokenWriter, read_tokens
from sparse_jax.data.tokenizer import end_of_text, load_tokenizer, save_tokenizer
from sparse_jax.progress import Progress

_READ_AT_ONCE = 2**22  # tokens


def shuffle_corpus(plain: Path, folder: Path, vocab_size: int) -> None:
    """Fills `folder` with the corpus in `plain`, the tokens of every document shuffled in both splits.

    The tokenizer and every end of a text stay as they are.
    """
    tokenizer = load_tokenizer(plain / "tokenizer.json")
    save_tokenizer(tokenizer, folder / "tokenizer.json")
    (end,) = end_of_text(tokenizer)
    summary = json.loads((plain / "corpus.json").read_text(encoding="utf-8"))
    contents = [f"shuffled {summary['fingerprint']}"]
    for name in summary["reports"]:
        for split in ("train", "validation"):
            tokens = read_tokens(plain / f"{name}.{split}.npy")
            progress = Progress(f"shuffle {name}/{split}", len(tokens), "tokens")
            with TokenWriter(folder / f"{name}.{split}.npy", vocab_size) as writer:
                for document in _documents(tokens, end):
                    writer.write(shuffled(document))
                    writer.write(np.array([end]))
                    progress.update(writer.count)
            progress.close()
            contents.append(f"{name} {split} {writer.digest}")
    summary["fingerprint"] = hashlib.sha256("\n".join(contents).encode()).hexdigest()[:16]
    summary["shuffled"] = True
    (folder / "corpus.json").write_text(json.dumps(summary, indent=1, allow_nan=False), encoding="utf-8")


def shuffled(document: np.ndarray) -> np.ndarray:
    """The tokens of a document in an order that depends on them alone, so that it is the same anywhere."""
    digest = hashlib.blake2b(document.astype("<u4").tobytes(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest)).permutation(document)


def _documents(tokens: np.ndarray, end: int) -> Iterator[np.ndarray]:
    """The documents in `tokens`, each of which an `end` follows, without it."""
    begun = np.empty(0, tokens.dtype)
    for start in range(0, len(tokens), _READ_AT_ONCE):
        read = np.concatenate([begun, tokens[start : start + _READ_AT_ONCE]])
        *whole, begun = np.split(read, np.flatnonzero(read == end) + 1)
        yield from (document[:-1] for document in whole)
