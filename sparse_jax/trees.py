"""Names of a pytree's leaves ("layers/mlp/up/kernel"), and first-match rules from names to values."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from sparse_jax.inputs import InputError

T = TypeVar("T")
Rules = Sequence[tuple[str, T]]
# Arrays on the host or on devices.
Array = np.ndarray | jax.Array
Arrays = Mapping[str, Array]


def path_name(path: tuple) -> str:
    """A key path of `jax.tree_util` as a slash-separated name."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def named_leaves(tree: object) -> dict[str, Any]:
    """Every leaf by its name, in tree order; None is not a leaf."""
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def map_named(function: Callable, tree: object, *rest: object) -> Any:
    """`jax.tree.map` whose function takes the leaf's name first."""
    return jax.tree_util.tree_map_with_path(
        lambda path, *leaves: function(path_name(path), *leaves), tree, *rest
    )


def first_match(rules: Rules[T], name: str) -> T:
    """The value of the first rule whose regular expression matches the whole of `name`.

    Raises InputError if none does: a leaf that no rule covers is a mistake, not a default.
    """
    for pattern, value in rules:
        if re.fullmatch(pattern, name):
            return value
    raise InputError(f"rules: no rule covers {name!r}; valid: add ('.*', ...) as the last rule")


def fingerprint(*trees: object) -> str:
    """A hash of the names, shapes and values of all leaves; other objects count by their repr."""
    digest = hashlib.blake2b(digest_size=16)
    for tree in trees:
        for name, leaf in named_leaves(tree).items():
            if hasattr(leaf, "shape"):
                array = np.ascontiguousarray(leaf)
                digest.update(f"{name} {array.dtype} {array.shape}".encode())
                digest.update(array.tobytes())
            else:
                digest.update(f"{name} {leaf!r}".encode())
    return digest.hexdigest()
