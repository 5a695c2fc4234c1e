"""Files that are there whole or not at all."""

import os
from pathlib import Path

from sparse_jax.inputs import InputError


def write_whole(path: str | os.PathLike, content: str | bytes) -> None:
    """Puts `content` (text as UTF-8) at `path`, making its folders; what was there stays until then.

    Raises InputError naming the file if it cannot be written, and leaves nothing half-written.
    """
    path = Path(path)
    unfinished = path.with_name(f"{path.name}.unfinished")
    data = content.encode("utf-8", errors="replace") if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            unfinished.write_bytes(data)
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
