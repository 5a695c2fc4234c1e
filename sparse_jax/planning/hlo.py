"""Reads a compiled program's text: computations, their instructions, and the bytes of shapes."""

import math
import re
from typing import NamedTuple

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*\) -> .* )?\{$")
_INSTRUCTION = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"([a-z]+\d*\w*)\[([\d,]*)\](\{[^}]*\})?")
_CALLED = re.compile(r"(?:calls|to_apply|body|branch_computations|true_computation|false_computation)="
                     r"(\{[^}]*\}|%?[\w.\-]+)")  # fmt: skip


class Array(NamedTuple):
    """A result of an instruction: its bytes, whether it is in a device's main memory, and its sizes."""

    bytes: float
    in_memory: bool
    sizes: tuple[int, ...]


class Instruction(NamedTuple):
    """One instruction: its results, the instructions that it reads, its other operands (as text), and its
    attributes."""

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    given: str
    attributes: str
    is_root: bool

    @property
    def called(self) -> list[str]:
        """The computations that it calls, without a loop's condition."""
        found = _CALLED.findall(self.attributes)
        return [name for group in found for name in re.findall(r"[\w.\-]+", group)]


Computation = dict[str, Instruction]


def parse(text: str) -> tuple[dict[str, Computation], str]:
    """All computations of an HLO module by name, and the name of the entry computation."""
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        if (match := _COMPUTATION.match(line)) is not None and not line.startswith("HloModule"):
            current = computations[match[2]] = {}
            entry = match[2] if match[1] else entry
        elif current is not None and (match := _INSTRUCTION.match(line)) is not None:
            current[match[2]] = _instruction(match[2], match[3], bool(match[1]))
    return computations, entry


def _instruction(name: str, text: str, is_root: bool) -> Instruction:
    text = re.sub(r"/\*.*?\*/", "", text)
    end = _closing(text) if text.startswith("(") else text.index(" ")
    shape, rest = text[:end], text[end:].lstrip()
    opcode, opening, _ = rest.partition("(")
    inside = rest[len(opcode) :]
    end = _closing(inside) if opening else 0
    operands = re.findall(r"%([\w.\-]+)", inside[:end])
    return Instruction(
        name, opcode, _arrays(shape), tuple(operands), inside[1 : end - 1], inside[end:], is_root
    )


def _closing(text: str) -> int:
    """The position after the parenthesis that closes the one `text` begins with."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return place + 1
    return len(text)


def _arrays(shape: str) -> tuple[Array, ...]:
    found = []
    for kind, given, layout in _ARRAY.findall(shape):
        sizes = tuple(int(size) for size in given.split(",") if size)
        # S(0), or nothing, is the main memory; a TPU's S(1) is inside the chip
        in_memory = re.search(r"S\([1-9]", layout) is None
        found.append(Array(math.prod(sizes) * _bits(kind) / 8, in_memory, sizes))
    return tuple(found)


def _bits(kind: str) -> int:
    if kind == "pred":
        return 8
    digits = re.search(r"\d+", kind)
    return int(digits[0]) if digits else 0
