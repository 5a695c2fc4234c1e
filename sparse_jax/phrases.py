"""Counts in messages: 1 edge, 2 edges."""


def counted(number: int, noun: str) -> str:
    """The number with its noun, which takes an s in the plural.

    >>> counted(1, "edge"), counted(1200, "edge")
    ('1 edge', '1,200 edges')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
