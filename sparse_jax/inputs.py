"""Clear errors for user input: one line naming the field, the value and what is valid."""

import dataclasses
import difflib
import math
import operator
import re
import reprlib
import types
import typing
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

# The most characters of a value in a message, and of a message.
_VALUE, _MESSAGE = 200, 2000
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _VALUE


class InputError(ValueError):
    """User input that cannot be used; the message is one line for the user, a long one without its middle."""

    def __init__(self, message: object):
        text = str(message)
        if len(text) > _MESSAGE:
            text = f"{text[: _MESSAGE // 2]} ... {text[-_MESSAGE // 2 :]}"
        super().__init__(text)


def shown(value: object) -> str:
    """What a message says of a value that a user gave: its repr, shortened, on one line."""
    return re.sub(r"\s*\n\s*", " ", _SHORT.repr(value))


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, for use in ours; its type if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def nearest(name: str, choices: Iterable[str]) -> str:
    """Suggests which of `choices` a misspelled `name` means, and lists them all."""
    choices = sorted(choices)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}valid: {', '.join(choices)}"


def require_choice(field: str, value: object, choices: Iterable[str]) -> None:
    """Raises InputError unless `value` is one of `choices`."""
    choices = list(choices)
    if not isinstance(value, Hashable) or value not in choices:  # an array is compared entry by entry
        raise InputError(f"{field}: {shown(value)} is unknown; {nearest(str(value), choices)}")


def require(condition: bool, field: str, value: object, valid: str) -> None:
    """Raises InputError naming `field` and `value` unless `condition` holds."""
    if not condition:
        raise InputError(f"{field}: {shown(value)} is not valid; valid: {valid}")


def whole(field: str, value: Any) -> int:
    """`value`, a whole number of Python, NumPy or JAX, as an int. Raises InputError for anything else."""
    try:
        require(not isinstance(value, bool), field, value, "a whole number")
        return operator.index(value)
    except TypeError:
        raise InputError(f"{field}: {shown(value)} is not valid; valid: a whole number") from None


def whole_seed(field: str, value: Any) -> int:
    """`value`, a seed that every generator takes, as an int. Raises InputError for anything else."""
    found = whole(field, value)
    require(0 <= found < 2**32, field, value, "0 to 2**32 - 1")
    return found


def whole_numbers(field: str, value: Any, valid: str) -> np.ndarray:
    """The value as an array. Raises InputError unless it is one of whole numbers, in rows of one length."""
    try:
        found = np.asarray(value)
    except ValueError:
        raise InputError(f"{field}: {shown(value)} is not valid; valid: {valid}") from None
    # an empty list has no numbers that could be whole
    require(found.size == 0 or np.issubdtype(found.dtype, np.integer), field, str(found.dtype), valid)
    return found


def require_once(field: str, names: Sequence[object]) -> None:
    """Raises InputError naming `field` if one of `names` is there more than once."""
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{field}: {shown(name)} is given {names.count(name)} times; valid: each once")


def require_utf8(text: str, field: str) -> None:
    """Raises InputError naming `field` if `text` has half a surrogate pair, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{field} has half a surrogate pair at character {error.start}; valid: text"
        ) from None


def require_sections(mapping: Mapping[str, object], names: Iterable[str]) -> Mapping[str, object]:
    """Returns `mapping`. Raises InputError unless its keys are exactly `names`."""
    names = list(names)
    for name in mapping:
        if name not in names:
            raise InputError(f"{name}: unknown section; {nearest(name, names)}")
    for name in names:
        if name not in mapping:
            raise InputError(f"{name}: the section is missing; valid: {', '.join(names)}")
    return mapping


def from_mapping(cls: type, mapping: Mapping[str, object], section: str):
    """Builds the dataclass `cls` from `mapping`, refusing unknown names and wrong types.

    Lists become tuples, scalars of NumPy those of Python, and integers are accepted for floats; nothing else
    is converted.
    Raises InputError naming `section.field`.
    """
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls) if field.init]
    values = {}
    for name, value in mapping.items():
        if name not in names:
            raise InputError(f"{section}.{name}: unknown field; {nearest(name, names)}")
        values[name] = _checked(value, hints[name], f"{section}.{name}")
    missing = [
        field.name
        for field in dataclasses.fields(cls)
        if field.init
        and field.name not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InputError(f"{section}.{missing[0]}: missing; it has no default")
    return cls(**values)


def _checked(value: object, hint: object, field: str) -> object:
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    if value is None and type(None) in options:
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{field}: {value} is not valid; valid: a finite number")
    for option in options:
        origin = typing.get_origin(option) or option
        if origin is tuple and isinstance(value, (list, tuple)):
            return tuple(tuple(v) if isinstance(v, (list, tuple)) else v for v in value)
        if origin is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if origin is int and isinstance(value, bool):
            continue
        if isinstance(origin, type) and isinstance(value, origin):
            return value
    wanted = " or ".join(getattr(option, "__name__", str(option)) for option in options)
    raise InputError(f"{field}: {shown(value)} is a {type(value).__name__}; valid: {wanted}")


def _is_union(hint: object) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)
