"""JSON objects from files."""

import json
from pathlib import Path

from sparse_jax.inputs import InputError


def read_json_object(path: Path) -> dict[str, object]:
    """The object that `path` holds. Raises InputError for a file that is missing, or holds anything else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({error}); valid: a JSON object") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds a {type(found).__name__}; valid: a JSON object")
    return found
