"""Reads pickles as data: a stack machine that resolves names by a table, and imports or executes nothing."""

import pickletools
from collections.abc import Callable, Mapping
from typing import Any

from sparse_jax.inputs import InputError

MARK = object()
PUSH_ARGUMENT = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
}  # fmt: skip
PUSH_CONSTANT = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": (), "MARK": MARK}
PUSH_NEW = {"EMPTY_DICT": dict, "EMPTY_LIST": list}
PUT, GET = {"BINPUT", "LONG_BINPUT", "MEMOIZE"}, {"BINGET", "LONG_BINGET"}
SKIP = {"PROTO", "FRAME"}


def read_pickle(
    data: bytes, names: Mapping[str, object], persistent: Callable[[object], object], source: object
) -> object:
    """The content of `data`: dicts, lists, tuples, numbers, strings, and results of `names` and `persistent`.

    names: "module name" of every global that may occur -> its replacement, a function if it may be called.
    persistent: persistent id -> object. source: a name for errors.

    Raises InputError for any other global or operation, and for anything that is not a pickle.
    """
    machine = _Machine(names, persistent)
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                (value,) = machine.stack
                return value
            machine.step(opcode.name, argument)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    except Exception as error:  # damage can cause any error: a wrong stack, type or length
        raise InputError(f"{source}: its pickle is damaged ({type(error).__name__})") from None
    raise InputError(f"{source}: its pickle is incomplete")


class _Machine:
    """The stack and the memo of one pickle."""

    def __init__(self, names: Mapping[str, object], persistent: Callable[[object], object]):
        self.stack: list[Any] = []
        self._memo: dict[object, Any] = {}
        self._names, self._persistent = names, persistent

    def step(self, name: str, argument: object) -> None:
        stack = self.stack
        if name in PUSH_ARGUMENT:
            stack.append(argument)
        elif name in PUSH_CONSTANT:
            stack.append(PUSH_CONSTANT[name])
        elif name in PUSH_NEW:
            stack.append(PUSH_NEW[name]())
        elif name in PUT:
            self._memo[len(self._memo) if argument is None else argument] = stack[-1]
        elif name in GET:
            stack.append(self._memo[argument])
        elif name not in SKIP:
            operation = getattr(self, f"_{name.lower()}", None)
            if operation is None:
                raise InputError(f"its pickle uses {name}; valid: a file that contains only tensors")
            operation(argument)

    def _since_mark(self) -> list:
        at = next(i for i in reversed(range(len(self.stack))) if self.stack[i] is MARK)
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def _fold(self, count: int) -> None:
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def _tuple(self, _) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _tuple1(self, _) -> None:
        self._fold(1)

    def _tuple2(self, _) -> None:
        self._fold(2)

    def _tuple3(self, _) -> None:
        self._fold(3)

    def _append(self, _) -> None:
        value = self.stack.pop()
        self._top(list).append(value)

    def _appends(self, _) -> None:
        values = self._since_mark()
        self._top(list).extend(values)

    def _setitem(self, _) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._top(dict)[key] = value

    def _setitems(self, _) -> None:
        values = self._since_mark()
        self._top(dict).update(zip(values[::2], values[1::2], strict=True))

    def _top(self, kind: type):
        if type(self.stack[-1]) is not kind:
            raise InputError(f"its pickle adds to a value that is not a {kind.__name__}")
        return self.stack[-1]

    def _global(self, name: str) -> None:
        if name not in self._names:
            raise InputError(f"its pickle refers to {name.replace(' ', '.')!r}; valid: tensors only")
        self.stack.append(self._names[name])

    def _stack_global(self, _) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._global(f"{module} {name}")

    def _reduce(self, _) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not any(function is known and callable(known) for known in self._names.values()):
            raise InputError("its pickle calls something that is not a function of tensors")
        self.stack.append(function(*arguments))

    def _build(self, _) -> None:
        self.stack.pop()  # attributes of a dict of tensors (versions of its modules) are ignored
        self._top(dict)

    def _binpersid(self, _) -> None:
        self.stack.append(self._persistent(self.stack.pop()))
