"""Lines that belong to one split each, so that no text to train on holds a prompt of a test split.

Every prompt of a task begins with a whole line of one of a few forms, and the split of that line is the split
of the prompt. The generated programs never hold a line whose split is "test", wherever it stands.
"""

import hashlib
import re

SPLITS = ("train", "validation", "test")
_SPLIT_OF_HASH = ("train",) * 6 + ("validation", "test")

# The forms have names and numbers in them, hence many lines each; a line that is the same in every program,
# as `while True:`, has none of them: to hold it out would keep a construct from being learned.
_FORMS = re.compile(r"def \w.*:|class \w+:|\w+ [-+]?= [\w *+-]+|print\(\w+\)")


def can_open(line: str) -> bool:
    """Whether a prompt may begin with `line`, whatever its indentation."""
    return _FORMS.fullmatch(line.strip()) is not None


def split_of(text: str) -> str:
    """The split of a text, by a hash of its first line without the indentation."""
    line = text.partition("\n")[0].strip()
    digest = hashlib.blake2b(line.encode(), digest_size=1).digest()
    return _SPLIT_OF_HASH[digest[0] % len(_SPLIT_OF_HASH)]


def held_out(line: str) -> bool:
    """Whether prompts of the test split may begin with `line`, so that no program may hold it."""
    return can_open(line) and split_of(line) == "test"
