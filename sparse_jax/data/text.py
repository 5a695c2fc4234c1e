"""The user's own text: plain files and JSON lines, in UTF-8."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from sparse_jax.copies import on_this_machine
from sparse_jax.data.documents import Document, shown
from sparse_jax.files import user_path
from sparse_jax.inputs import InputError, require_utf8

JSON_LINES = (".jsonl", ".ndjson", ".json")

# A plain file is one long text; pieces of it become documents, so that some can be held out.
LARGEST_PIECE = 16_384  # characters
LEAST_PIECES = 20


def list_texts(paths: Sequence[str]) -> list[Path]:
    """The files at `paths`. Raises InputError for one that does not exist or is not a file."""
    files = [user_path(path, "paths") for path in paths]
    for file in files:
        try:
            found = file.is_file()
        except OSError as error:
            raise InputError(f"paths: cannot read {str(file)!r} ({error.strerror})") from None
        if not found:
            raise InputError(f"paths: {str(file)!r} is not a file; valid: text or JSON lines")
    return files


def read_texts(files: Sequence[Path], skipped: dict[str, list[str]]) -> Iterator[Document]:
    """The documents of `files`: one a line of JSON, or pieces of a plain text, cut at line ends.

    Notes in `skipped` which were left out: reason -> names.
    Raises InputError that names the file, and the line that is not JSON or the byte that is not UTF-8.
    """
    for file in files:
        with on_this_machine(file) as copy:
            documents = _json_lines(copy) if file.suffix in JSON_LINES else _pieces(copy)
            for document in documents:
                if document.text.strip():
                    yield document
                else:
                    skipped.setdefault("is empty", []).append(document.origin)


def _json_lines(file: Path) -> Iterator[Document]:
    for number, line in _lines(file):
        if line.strip():
            yield Document(_text_of(line, f"paths: {file}, line {number}"), f"{shown(file.name)}:{number}")


def _text_of(line: str, where: str) -> str:
    try:
        row = json.loads(line.rstrip())
    except json.JSONDecodeError as error:
        raise InputError(
            f"{where}, column {error.colno}: not JSON ({error.msg}); valid: one object per line"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: unusable JSON ({error}); valid: one object per line") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: a JSON {type(row).__name__}; valid: an object with a text")
    if "text" not in row:
        raise InputError(f'{where}: no "text" among {sorted(row)}; valid: an object with a text')
    text = row["text"]
    if not isinstance(text, str):
        raise InputError(f'{where}: "text" is a {type(text).__name__}; valid: a string')
    require_utf8(text, f'{where}: "text"')
    return text


def _pieces(file: Path) -> Iterator[Document]:
    """Pieces that make up the text again, cut at line ends where lines are not too long for that."""
    length = max(1, min(LARGEST_PIECE, file.stat().st_size // LEAST_PIECES))
    piece, first = "", 1
    for number, line in _lines(file):
        for start in range(0, len(line), length):
            part = line[start : start + length]
            if len(piece) + len(part) > length:
                yield Document(piece, f"{shown(file.name)}:{first}")
                piece, first = "", number
            piece += part
    if piece:
        yield Document(piece, f"{shown(file.name)}:{first}")


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines with their ends; no UTF-8 character holds the byte of a line end: each decodes alone."""
    offset = 0
    try:
        stream = file.open("rb")
    except OSError as error:
        raise InputError(f"paths: cannot read {str(file)!r} ({error.strerror})") from None
    with stream:
        for number, line in enumerate(stream, start=1):
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                raise InputError(
                    f"paths: {file}, byte {offset + error.start} is not UTF-8 ({error.reason}); valid: UTF-8"
                ) from None
            offset += len(line)
            yield number, text.removeprefix("\ufeff") if number == 1 else text
