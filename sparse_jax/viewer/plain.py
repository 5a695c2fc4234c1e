"""Numbers and facts in a form that JSON can hold and a page can show."""

import math
from collections.abc import Mapping
from typing import SupportsFloat


def number(value: SupportsFloat | None, digits: int | None = None) -> int | float | bool | None:
    """A plain number, to `digits` significant digits if given; None for what is missing or not finite."""
    if value is None or isinstance(value, (bool, int)):
        return value
    value = float(value)
    if not math.isfinite(value):
        return None
    return value if digits is None else float(f"{value:.{digits}g}")


def lines(facts: Mapping[str, object], prefix: str = "") -> list[list[str]]:
    """[label, text] of every fact, those of a nested mapping as "outer.inner"."""
    found = []
    for name, value in facts.items():
        inner = (
            lines(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [[prefix + name, str(value)]]
        )
        found.extend(inner)
    return found
