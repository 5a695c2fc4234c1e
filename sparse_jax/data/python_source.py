"""Real Python: the files of directory trees that decode and parse."""

import ast
import io
import os
import stat
import sysconfig
import tokenize
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from sparse_jax.buckets import BucketPath
from sparse_jax.copies import AT_ONCE
from sparse_jax.data.documents import Document, content_hash, left_out, shown
from sparse_jax.files import user_path
from sparse_jax.inputs import InputError

# The standard library's directory may hold what was installed; a user's own tree is taken whole.
_INSTALLED = ("site-packages", "dist-packages")


class SourceFile(NamedTuple):
    """A file as listed: where it is, its name below the tree, which is the same on any machine, its state."""

    path: str
    origin: str
    size: int
    modified: int


def list_files(
    paths: Sequence[str], max_bytes: int | None, skipped: dict[str, list[str]]
) -> list[SourceFile]:
    """The `.py` files under `paths` (none: the standard library), in the order of their names' hashes.

    Files that would bring the sum of sizes above `max_bytes` are left out. What cannot be read, and linked
    directories, are noted in `skipped`: reason -> names.
    Raises InputError for a path that is not a directory, and if nothing is found or fits.
    """
    found: list[SourceFile] = []
    for root in [user_path(path, "paths") for path in paths] or [Path(sysconfig.get_path("stdlib"))]:
        try:
            found_there = root.is_dir()
        except OSError as error:
            raise InputError(f"paths: cannot read {str(root)!r} ({error.strerror})") from None
        if not found_there:
            raise InputError(f"paths: {str(root)!r} is not a directory; valid: directories of .py files")
        if isinstance(root, BucketPath):
            found += _listed(root)
        else:
            found += _walk(root, () if paths else _INSTALLED, skipped)
    where = ", ".join(paths) or "the standard library"
    if not found:
        why = f" ({left_out(skipped)})" if skipped else ""
        raise InputError(f"paths: no .py files in {where}{why}; valid: directories of .py files")
    found.sort(key=lambda file: (content_hash(file.origin), file.path))
    if max_bytes is None:
        return found
    chosen, total = [], 0
    for file in found:
        if total + file.size <= max_bytes:
            chosen.append(file)
            total += file.size
    if not chosen:
        smallest = min(file.size for file in found)
        raise InputError(f"max_bytes: {max_bytes} is smaller than every file; valid: at least {smallest}")
    return chosen


def read_files(files: Sequence[SourceFile], skipped: dict[str, list[str]]) -> Iterator[Document]:
    """The texts of `files`, with "\\n" line ends; notes in `skipped` which were left out: reason -> names.

    Raises InputError at the end if none was any good.
    """
    good = False
    for file, content in _contents(files):
        try:
            text = _decode(content.result())
        except OSError as error:
            skipped.setdefault(f"cannot be read: {error.strerror}", []).append(file.origin)
        except (UnicodeError, LookupError, SyntaxError):
            skipped.setdefault("does not decode", []).append(file.origin)
        else:
            if not text.strip():
                skipped.setdefault("is empty", []).append(file.origin)
            elif not _parses(text):
                skipped.setdefault("does not parse", []).append(file.origin)
            else:
                good = True
                yield Document(text, file.origin)
    if not good:
        raise InputError(
            f"paths: no .py file of {len(files)} can be used ({left_out(skipped)}); valid: Python source"
        )


def _walk(root: Path, skip: Sequence[str], skipped: dict[str, list[str]]) -> Iterator[SourceFile]:
    def note(error: OSError) -> None:
        skipped.setdefault(f"cannot be read: {error.strerror}", []).append(shown(str(error.filename)))

    for directory, below, names in os.walk(root, onerror=note):
        below[:] = sorted(set(below) - set(skip))
        for name in below:
            if Path(directory, name).is_symlink():  # os.walk does not enter it: it may lead round in circles
                skipped.setdefault("is a linked directory", []).append(shown(str(Path(directory, name))))
        for name in sorted(names):
            path = Path(directory, name)
            if not name.endswith(".py"):
                continue
            try:
                state = path.stat()
            except OSError as error:  # a link that leads nowhere, a directory that may be listed and no more
                note(error)
            else:
                if stat.S_ISREG(state.st_mode):
                    origin = shown(f"{root.resolve().name}/{path.relative_to(root).as_posix()}")
                    yield SourceFile(str(path), origin, state.st_size, state.st_mtime_ns)


def _listed(root: BucketPath) -> Iterator[SourceFile]:
    for one in root.objects(recursive=True):
        if one.path.suffix == ".py":
            origin = f"{root.name}/{one.path.relative_to(root)}"
            yield SourceFile(str(one.path), origin, one.size, one.generation)


def _contents(files: Sequence[SourceFile]) -> Iterator[tuple[SourceFile, Future[bytes]]]:
    """Every file with its content; a few are read ahead, since objects in a bucket take long to answer."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        read: deque[tuple[SourceFile, Future[bytes]]] = deque()
        for file in files:
            read.append((file, pool.submit(user_path(file.path).read_bytes)))
            if len(read) > 2 * AT_ONCE:
                yield read.popleft()
        yield from read


def _decode(content: bytes) -> str:
    """Decodes as Python itself does: by byte order mark or coding line, else UTF-8."""
    encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    text = io.TextIOWrapper(io.BytesIO(content), encoding).read()
    text.encode()  # some codecs give lone surrogates, which no tokenizer takes
    return text


def _parses(text: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old code has many invalid escape sequences
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
