"""Copies between buckets and this machine, for what needs a file of the system."""

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sparse_jax.buckets import BucketPath, Object
from sparse_jax.inputs import InputError
from sparse_jax.progress import Progress

# How many objects are read at once.
AT_ONCE = 8
# From how many bytes on progress is shown.
LARGE = 10_000_000


def upload(directory: Path, path: BucketPath, last: str | None = None) -> None:
    """Copies the files directly in `directory` to a place in a bucket.

    last: the file by which a reader knows that all are there; others without it are left over, and replaced.
    By default the largest, the weights of a model, without which no reader takes the others for one; then
    Changed is raised for a file that is there. What was written is deleted if the rest cannot be.
    """
    files = [file for file in sorted(directory.iterdir()) if file.is_file()]
    files.sort(key=lambda file: file.stat().st_size if last is None else file.name == last)
    progress, written = _progress(f"copy to {path}", sum(file.stat().st_size for file in files)), 0
    done: list[BucketPath] = []
    try:
        for file in files:
            (path / file.name).upload(file, replaces=0 if last is None else None)
            done.append(path / file.name)
            written += file.stat().st_size
            progress.update(written)
    except BaseException:
        for one in reversed(done):
            with contextlib.suppress(OSError):
                one.unlink()
        raise
    progress.close()


def _progress(label: str, size: int) -> Progress:
    return Progress(label, size, "bytes", shown=size >= LARGE)


def cache_directory() -> Path:
    """Where copies of what lies in buckets are kept: $XDG_CACHE_HOME/sparse_jax, by default in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sparse_jax"


@contextlib.contextmanager
def on_this_machine(path: Path, suffix: str = "") -> Iterator[Path]:
    """`path` or, if it is in a bucket, a copy: of a file, or of files with `suffix` directly in a directory.

    For what needs a file of the system, to map it into memory or to run it. A copy is made once, and found
    again by its content. An InputError that the block raises about the copy names the place in the bucket.
    Raises OSError if there is nothing.
    """
    if not isinstance(path, BucketPath):
        yield path
        return
    copy = _copied(path, suffix)
    try:
        yield copy
    except InputError as error:
        raise type(error)(str(error).replace(str(copy), str(path))) from error


def _copied(path: BucketPath, suffix: str) -> Path:
    found = [one for one in path.objects(recursive=False) if one.path.name.endswith(suffix)]
    if not found and not path.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    single = [one.path for one in found] == [path]
    about = [path.name, single, [(one.path.name, one.content) for one in found]]
    folder = cache_directory() / "copies" / hashlib.sha256(json.dumps(about).encode()).hexdigest()[:24]
    copy = folder / path.name
    if copy.exists():
        return copy
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f"{folder.name}.unfinished.", dir=folder.parent
        ) as unfinished:
            whole = Path(unfinished) / "whole"
            place = whole if single else whole / path.name
            place.mkdir(parents=True)
            download(found, place, str(path))
            try:
                whole.rename(folder)
            except OSError:
                if not copy.exists():  # else another process was faster, with the same content
                    raise
    except OSError as error:
        raise InputError(f"{path}: cannot be copied to {folder.parent} ({error.strerror})") from None
    return copy


def download(objects: Sequence[Object], directory: Path, label: str) -> None:
    """Copies objects to files of their names in `directory`, several at a time. Raises OSError."""
    progress, done = _progress(f"copy {label}", sum(one.size for one in objects)), 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        made = [pool.submit(one.path.download, directory / one.path.name, one.generation) for one in objects]
        try:
            for one, each in zip(objects, made):
                each.result()
                done += one.size
                progress.update(done)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    progress.close()
