"""Kinds of flags: paths, lists of names, and what the fields of a config may be given."""

import ast

from absl import flags
from ml_collections import config_flags
from ml_collections.config_flags import tuple_parser

from sparse_jax.files import user_path
from sparse_jax.inputs import require_once

# flags belong to the command that asks for them here, whose --help would not list them otherwise
flags.disclaim_key_flags()


class _Path(flags.ArgumentParser):
    """A place on this machine or in a bucket, with ~ expanded."""

    syntactic_help = "a path"

    def parse(self, argument: str) -> str:
        return str(user_path(argument))


class _Paths(flags.ArgumentParser):
    """Places, separated by commas."""

    syntactic_help = "paths, separated by commas"

    def parse(self, argument: str | tuple[str, ...]) -> tuple[str, ...]:
        given = argument.split(",") if isinstance(argument, str) else argument
        return tuple(str(user_path(path)) for path in given)


def path_flag(name: str, default: str | None, about: str, required: bool = False) -> flags.FlagHolder:
    """A flag whose value is a path; `~` is expanded, a bucket asked whether it is there."""
    return flags.DEFINE(_Path(), name, default, about, required=required)


def paths_flag(name: str, about: str) -> flags.FlagHolder:
    """A flag whose value is a tuple of paths, None if it is not given."""
    return flags.DEFINE(_Paths(), name, None, about)


class _Names(flags.ListParser):
    """A list in which nothing is there twice: what is measured, or counted, is so once."""

    def parse(self, argument: str | list[str]) -> list[str]:
        found = super().parse(argument)
        require_once("list", found)
        return found


def names_flag(name: str, default: list[str] | None, about: str, required: bool = False) -> flags.FlagHolder:
    """A flag whose value is a list of different names, separated by commas."""
    serializer = flags.CsvListSerializer(",")
    return flags.DEFINE(_Names(), name, default, about, serializer=serializer, required=required)


class _Optional(flags.ArgumentParser):
    """What `parser` takes, or None; whether a field may be None, its section says."""

    def __init__(self, parser: flags.ArgumentParser):
        self._parser = parser

    def parse(self, argument: object) -> object:
        return None if argument == "None" else self._parser.parse(argument)

    def flag_type(self) -> str:
        return self._parser.flag_type()


class _Tuple(tuple_parser.TupleParser):
    """A Python tuple, or its items between commas: (1, 2) and for_while,else_elif."""

    def parse(self, argument: object) -> tuple:
        if isinstance(argument, list):  # of a flag that was given several times
            return tuple(item for one in argument for item in self.parse(one))
        if not isinstance(argument, str):
            return super().parse(argument)
        try:
            value = ast.literal_eval(argument)
        except (SyntaxError, ValueError):
            return tuple(part.strip() for part in argument.split(",") if part.strip())
        return tuple(value) if isinstance(value, (tuple, list)) else (value,)


for _type, _parser in (
    (int, flags.IntegerParser()),
    (float, flags.FloatParser()),
    (str, flags.ArgumentParser()),
):
    config_flags.register_flag_parser_for_type(_type, _Optional(_parser))
config_flags.register_flag_parser_for_type(tuple, _Tuple())
