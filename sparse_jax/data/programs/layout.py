"""Indentation of lines, the only layout that the productions need."""


def indented(lines: list[str]) -> list[str]:
    """`lines` one level deeper; empty lines stay empty."""
    return [f"    {line}" if line else line for line in lines]
