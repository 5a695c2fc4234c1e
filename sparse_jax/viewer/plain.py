"""Numbers and facts in a form for JSON and for display."""

import math
from collections.abc import Mapping
from typing import SupportsFloat


def number(value: SupportsFloat | None, digits: int | None = None) -> int | float | bool | None:
    """A plain number, to `digits` significant digits if given; None for missing or non-finite values."""
    if value is None or isinstance(value, (bool, int)):
        return value
    value = float(value)
    if not math.isfinite(value):
        return None
    return value if digits is None else float(f"{value:.{digits}g}")


def lines(facts: Mapping[str, object], prefix: str = "") -> list[list[str]]:
    """[label, text] of every fact; labels of a nested mapping are "outer.inner"."""
    found = []
    for name, value in facts.items():
        inner = (
            lines(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [[prefix + name, str(value)]]
        )
        found.extend(inner)
    return found
