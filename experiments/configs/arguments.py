"""Parses the part of a config string after the colon: `pretrain.py:size=tiny,kind=dense`."""

from collections.abc import Mapping

from sparse_jax.inputs import InputError, nearest


def parse(argument: str | None, choices: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """ "size=tiny" as a dict; a missing name gets the first of its `choices`.

    Raises InputError for a name or value that is not among the choices.
    """
    values = {name: options[0] for name, options in choices.items()}
    for part in filter(None, (argument or "").split(",")):
        name, _, value = part.partition("=")
        if name not in choices:
            raise InputError(f"config argument {part!r}: {name!r} is unknown; {nearest(name, choices)}")
        if value not in choices[name]:
            raise InputError(f"config argument {part!r}: {nearest(value, choices[name])}")
        values[name] = value
    return values
