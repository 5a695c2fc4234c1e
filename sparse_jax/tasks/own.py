"""A task of the user's own: pairs in a JSON-lines file, or a Python function that draws them."""

import hashlib
import json
import runpy
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from random import Random
from typing import Any

from sparse_jax.copies import on_this_machine
from sparse_jax.files import user_path
from sparse_jax.inputs import InputError, nearest, shown
from sparse_jax.phrases import counted
from sparse_jax.tasks.beside import ModulesBeside
from sparse_jax.tasks.pair import Pair, check_pair
from sparse_jax.tasks.task import DrawnTask, Member, Task, cut

# Half of the prompts train, a quarter validate, a quarter test, by a hash of their text.
_SPLIT_OF_HASH = ("train", "train", "validation", "test")
_FIELDS = tuple(field.name for field in fields(Pair))


@dataclass(frozen=True, repr=False)
class FileTask(Task):
    """The pairs of a file. No prompt is in two of them, so no prompt is in two splits."""

    source: tuple[Pair, ...]

    def pairs(self, split: str, count: int, seed: int) -> list[Pair]:
        self.check(split, count, seed)
        own = [pair for pair in self.source if _split_of(pair.prompt) == split]
        if count > len(own):
            raise InputError(
                f"count: {count} is more than task {self.name!r} has in split {split!r}; valid: at most "
                f"{len(own)} (of its {len(self.source)} pairs, a half trains, a quarter validates or tests)"
            )
        return Random(int(seed)).sample(own, count)

    def examples(self, count: int) -> list[Pair]:
        return list(self.source[:count])  # a split may have fewer, or none

    def completions(self) -> list[str]:
        return sorted({text for pair in self.source for text in (pair.answer, pair.wrong)})


@dataclass(frozen=True, repr=False)
class FunctionTask(DrawnTask):
    """The pairs that the user's function draws: a Pair, or two programs marked as the built-in ones are."""

    function: Callable[[Random], object]
    path: str
    beside: ModulesBeside

    def draw(self, rng: Random, split: str) -> tuple[Member, Member]:
        try:
            with self.beside.imported():
                drawn = self.function(rng)
        except (Exception, SystemExit) as error:  # whatever it raises, its place in the file is what helps
            raise InputError(_what_failed(self.path, error)) from error
        code = self.function.__code__
        where = f"{code.co_filename}:{code.co_firstlineno}: {self.function.__name__}"
        if isinstance(drawn, Pair):
            pair = drawn
        elif isinstance(drawn, tuple) and len(drawn) == 2 and all(map(_is_marked, drawn)):
            one, other = map(cut, drawn)
            pair = Pair(one.prompt, other.prompt, one.completion, other.completion)
        else:
            raise InputError(
                f"{where} returned {shown(drawn)}; "
                "valid: a Pair, or two texts with one token between « and » each"
            )
        check_pair(pair, where)
        return Member(pair.prompt, pair.answer, ""), Member(pair.counterfactual, pair.wrong, "")

    def belongs(self, prompt: str, split: str) -> bool:
        return _split_of(prompt) == split


def read_task(path: str) -> FileTask:
    """The task of a JSON-lines file whose lines have the fields of Pair; empty lines are passed over.

    Raises InputError naming file and line for anything that is not a pair of texts, and for a prompt
    (or counterfactual) that stood on an earlier line.
    """
    file = user_path(path, "task")
    path = str(file)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"task: cannot read {path!r} ({error})") from None
    pairs: list[Pair] = []
    line_of: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        pair = _parse(line, where)
        for prompt in (pair.prompt, pair.counterfactual):
            if prompt in line_of:
                raise InputError(f"{where}: {prompt!r} is on line {line_of[prompt]} too; valid: only once")
            line_of[prompt] = number
        pairs.append(pair)
    if not pairs:
        raise InputError(f"{path}: no pairs; valid: a JSON object with {', '.join(_FIELDS)} on each line")
    return FileTask(file.stem, "own", f"{counted(len(pairs), 'pair')} of {path}", tuple(pairs))


def pairs_task(pairs: Sequence[object], name: str = "pairs") -> FileTask:
    """The task of pairs in memory: each a Pair, a mapping of its four fields, or the four in order.

    Raises InputError naming the pair for anything else, and for a prompt that comes twice.
    """
    found: list[Pair] = []
    seen: dict[str, int] = {}
    for number, given in enumerate(pairs):
        where = f"pairs[{number}]"
        if isinstance(given, Pair):
            pair = given
        elif isinstance(given, Mapping):
            pair = _pair_of(given, where)
        elif isinstance(given, (list, tuple)) and len(given) == len(_FIELDS):
            pair = _pair_of(dict(zip(_FIELDS, given)), where)
        else:
            raise InputError(f"{where}: {shown(given)}; valid: a Pair, or {', '.join(_FIELDS)}")
        check_pair(pair, where)
        for prompt in (pair.prompt, pair.counterfactual):
            if prompt in seen:
                raise InputError(f"{where}: {prompt!r} is in pairs[{seen[prompt]}] too; valid: only once")
            seen[prompt] = number
        found.append(pair)
    if not found:
        raise InputError("pairs: none; valid: at least one pair")
    return FileTask(name, "own", counted(len(found), "pair"), tuple(found))


def load_function(path: str, name: str) -> FunctionTask:
    """The task of the function `name` in the Python file `path`.

    It may import the modules beside it. From a bucket, all of them are copied to this machine first, and its
    errors name the copy. Raises InputError if the file cannot be run or has no such function.
    """
    file = user_path(path, "task")
    if not file.is_file():
        raise InputError(f"task: cannot read {str(file)!r}; valid: a Python file")
    with on_this_machine(file.parent, ".py") as folder:
        path = str(folder / file.name)
    beside = ModulesBeside(path)
    try:
        with beside.imported():
            found = runpy.run_path(path)
    except (Exception, SystemExit) as error:  # whatever the user's file raises when it is run
        raise InputError(_what_failed(path, error)) from error
    functions = {key: value for key, value in found.items() if hasattr(value, "__code__")}
    if name not in functions:
        raise InputError(f"task: {path} has no function {name!r}; {nearest(name, functions)}")
    about = (functions[name].__doc__ or f"drawn by {path}").strip().split("\n")[0]
    return FunctionTask(name, "own", about, functions[name], path, beside)


def _parse(line: str, where: str) -> Pair:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg} at column {error.colno})") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end
        raise InputError(f"{where}: unusable JSON ({error})") from None
    if not isinstance(values, dict):
        raise InputError(f"{where}: {type(values).__name__}; valid: an object with {', '.join(_FIELDS)}")
    pair = _pair_of(values, where)
    check_pair(pair, where)
    return pair


def _pair_of(values: Mapping[str, Any], where: str) -> Pair:
    for name, value in values.items():
        if name not in _FIELDS:
            raise InputError(f"{where}: field {name!r} is unknown; {nearest(name, _FIELDS)}")
        if not isinstance(value, str):
            raise InputError(f"{where}: {name} is a {type(value).__name__}; valid: a text")
    for name in _FIELDS:
        if name not in values:
            raise InputError(f"{where}: field {name!r} is missing; valid: {', '.join(_FIELDS)}")
    return Pair(**values)


def _is_marked(text: object) -> bool:
    if not isinstance(text, str):
        return False
    return text.count("«") == text.count("»") == 1 and text.index("«") < text.index("»")


def _split_of(prompt: str) -> str:
    digest = hashlib.blake2b(prompt.encode(), digest_size=1).digest()
    return _SPLIT_OF_HASH[digest[0] % len(_SPLIT_OF_HASH)]


def _what_failed(path: str, error: BaseException) -> str:
    """The error with the innermost line of the user's file that led to it."""
    if isinstance(error, SyntaxError):
        return f"{path}:{error.lineno}: {type(error).__name__}: {error.msg}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    place = f"{path}:{lines[-1]}" if lines else path
    return f"{place}: {type(error).__name__}: {' '.join(str(error).split())}"
