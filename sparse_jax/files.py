"""Paths that users give, atomic writing of files and directories, JSON, and arrays."""

import contextlib
import io
import json
import math
import os
import re
import secrets
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from sparse_jax.buckets import SCHEME, BucketPath, Changed, bucket_path
from sparse_jax.copies import upload
from sparse_jax.inputs import InputError, require


def user_path(path: str | os.PathLike, field: str = "path") -> Path:
    """A path that a user gave, with `~` expanded; whatever takes one, takes it through here.

    gs://BUCKET/NAME is a BucketPath, which has those methods of a Path that this library uses, and no others.
    Raises InputError naming `field` for an empty path, another scheme, an unknown user's home, a bucket that
    cannot be used, and what is no path.
    """
    if isinstance(path, BucketPath):
        return cast(Path, path)
    require(isinstance(path, (str, os.PathLike)), field, path, "a path")
    text = os.fspath(path)
    if not text:
        raise InputError(f"{field}: empty; valid: a path")
    # Path("gs://x") has one slash only
    scheme = re.match(r"([a-z][a-z0-9+.-]+):/", text, re.IGNORECASE)
    if scheme and scheme[1].lower() == "gs":
        return cast(Path, bucket_path(text, field))
    if scheme:
        raise InputError(
            f"{field}: {text!r}: {scheme[1]}:// is not supported; valid: a path on this machine, or {SCHEME}"
        )
    try:
        return Path(path).expanduser()
    except RuntimeError:
        user = text.split("/")[0]
        raise InputError(f"{field}: {text!r}: no home of {user} is known; valid: a path without ~") from None


def write_whole(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes `content` (text as UTF-8) to `path` atomically, creating its directories; replaces an old file.

    Raises InputError naming the file if it cannot be written, and leaves nothing half-written.
    """
    path = user_path(path)
    data = content.encode("utf-8", errors="replace") if isinstance(content, str) else content
    try:
        if isinstance(path, BucketPath):
            path.write_bytes(data)
        else:
            _write_on_disk(path, data)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def _write_on_disk(path: Path, data: bytes) -> None:
    # a name that nobody has: others may write the same file at once, on other machines too; the last one wins
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(8)}.unfinished")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with unfinished.open("xb") as file:
            file.write(data)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file. Raises OSError for one that cannot be read, ValueError for a damaged one."""
    content = path.read_bytes()  # np.load would leave a damaged file open
    try:
        with np.load(io.BytesIO(content)) as file:
            return dict(file)
    except (EOFError, KeyError, OSError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(str(error) or type(error).__name__) from None


def append_lines(path: Path, lines: str) -> None:
    """Appends whole lines of UTF-8 to a file; a last line that a kill cut off is removed first.

    An object in a bucket is read and written anew, and again if another process has written it meanwhile.
    """
    if isinstance(path, BucketPath):
        while True:
            before, generation = path.read_version() if path.is_file() else (b"", 0)
            with contextlib.suppress(Changed):
                path.write_bytes(before + lines.encode(), generation)
                return
    path.parent.mkdir(parents=True, exist_ok=True)
    content = path.read_bytes() if path.exists() else b""
    if content and not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)
    with path.open("a", encoding="utf-8") as file:
        file.write(lines)


def require_writable(path: str | os.PathLike) -> None:
    """Raises InputError naming the file unless `write_whole` can write to `path`; makes its directories."""
    path = user_path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a directory; valid: a file")
    try:
        if isinstance(path, BucketPath):
            probe = path.with_name(f"{path.name}.{secrets.token_hex(8)}.unfinished")
            probe.write_bytes(b"")
            probe.unlink()
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


@contextlib.contextmanager
def new_directory(path: str | os.PathLike) -> Iterator[Path]:
    """A directory to fill, which becomes `path` if the block succeeds and is deleted if it does not.

    Raises InputError if `path` exists (it is not changed) or cannot be written.
    """
    path = user_path(path)
    if path.exists() or path.is_symlink():
        raise InputError(f"{path}: exists; valid: a directory that does not exist yet")
    beside = None if isinstance(path, BucketPath) else path.parent
    try:
        if beside is not None:
            beside.mkdir(parents=True, exist_ok=True)
        # a unique name: anything else next to `path` may belong to somebody
        unfinished = Path(tempfile.mkdtemp(prefix=f"{path.name}.unfinished.", dir=beside))
        try:
            yield unfinished
            unfinished.chmod(0o755)
            if isinstance(path, BucketPath):
                upload(unfinished, path)
            else:
                os.rename(unfinished, path)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def json_text(value: object, indent: int | None = None, sort_keys: bool = False) -> str:
    """`value` as standard JSON: NaN and infinite numbers become null."""
    return json.dumps(_finite(value), indent=indent, sort_keys=sort_keys, allow_nan=False)


def json_lines(rows: Iterable[Mapping[str, object]]) -> str:
    """Each row as a line of JSON, written by `json_text`."""
    return "".join(json_text(row) + "\n" for row in rows)


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in the file `path`. Raises InputError if it is missing or contains anything else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({error}); valid: a JSON object") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: contains a {type(found).__name__}; valid: a JSON object")
    return found
