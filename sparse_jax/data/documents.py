"""Documents, and their split into train and validation by what they say."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from sparse_jax.inputs import InputError


class Document(NamedTuple):
    """A text and where it comes from (see `shown`)."""

    text: str
    origin: str


class Split:
    """Splits a stream of documents in one pass; a document that occurs again is dropped.

    The hash of its content decides where a document goes, so it stays there when others come or go.
    Each side gets one document at least. Read `train` to its end first, then `validation`. Held in
    memory: the validation side, and 8 bytes of hash a document.
    """

    def __init__(self, documents: Iterable[Document], validation_fraction: float):
        self._documents = documents
        self._bound = int(validation_fraction * 2**64)
        self._seen: set[int] = set()
        self._held_out: list[Document] = []
        self.duplicates = 0

    def train(self) -> Iterator[Document]:
        """The documents to train on. Raises InputError unless there are two different ones."""
        last = None  # kept back, because the other side may need it
        for document in self._distinct():
            if last is not None:
                yield last
            last = document
        if len(self._seen) < 2:
            raise InputError(
                f"documents: {len(self._seen)} different; valid: at least 2, for train and validation"
            )
        if last is None:
            last = self._held_out.pop()
        elif not self._held_out:
            self._held_out.append(last)
            return
        yield last

    def validation(self) -> Iterator[Document]:
        """The documents held out."""
        yield from self._held_out

    def _distinct(self) -> Iterator[Document]:
        """The documents of the train side; puts the others aside."""
        for document in self._documents:
            digest = content_hash(document.text)
            if digest in self._seen:
                self.duplicates += 1
                continue
            self._seen.add(digest)
            if digest < self._bound:
                self._held_out.append(document)
            else:
                yield document


def shown(name: str) -> str:
    """A file's name as text that can be written anywhere: bytes that are not UTF-8 become \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def left_out(skipped: Mapping[str, Sequence[str]]) -> str:
    """What a source leaves out, in a line: by reason how many, and the first of them."""
    parts = []
    for reason, names in skipped.items():
        more = ", ..." if len(names) > 1 else ""
        parts.append(f"{len(names)} {reason} ({names[0]}{more})")
    return "; ".join(parts)


def content_hash(text: str) -> int:
    """A number from 0 to 2**64 - 1, even over texts and the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
