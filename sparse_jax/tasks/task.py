"""What a task is: a name, and a generator of pairs whose splits share no prompt."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from sparse_jax.inputs import InputError, require, require_choice
from sparse_jax.tasks.pair import Pair

# Which split a prompt belongs to, by its hash: half of them train, a quarter validate, a quarter test.
SPLITS = ("train", "validation", "test")
_SPLIT_OF_HASH = ("train", "train", "validation", "test")
# Pruning costs as much as the longest prompt does, so the rare long ones are left out; in characters.
_LONGEST_PROMPT = 110
# A pair lies in a given split once in 4 to 16 draws; far more draws mean that the task has run dry.
_DRAWS_PER_PAIR = 200

Generate = Callable[[Random], tuple[str, str]]


class Member(NamedTuple):
    """A complete program cut in three: `prompt` stops where `completion`, one token, is due."""

    prompt: str
    completion: str
    rest: str

    @property
    def program(self) -> str:
        return self.prompt + self.completion + self.rest


@dataclass(frozen=True)
class Task:
    """A binary next-token task (METHOD section 5).

    `generate` draws two complete programs that differ only in what decides; in each, the token to be
    predicted stands between « and ».
    """

    name: str
    family: str
    about: str
    generate: Generate

    def members(self, split: str, count: int, seed: int) -> Iterator[tuple[Member, Member]]:
        """Yields `count` distinct pairs of programs; the same arguments give the same pairs.

        A pair is in a split only if both of its prompts are, and a prompt's split is a hash of its text:
        no prompt occurs in two splits, whatever the seeds. Raises InputError for an unknown split, a
        count that is not positive, and a count greater than the task can supply.
        """
        require_choice("split", split, SPLITS)
        require(count > 0, "count", count, "a positive number of pairs")
        rng = Random(f"{self.name}/{split}/{seed}")
        seen: set[tuple[str, str]] = set()
        for _ in range(_DRAWS_PER_PAIR * count + 10_000):
            pair = [cut(text) for text in self.generate(rng)]
            key = (pair[0].prompt, pair[1].prompt)
            if key in seen or not all(_fits(prompt, split) for prompt in key):
                continue
            seen.add(key)
            if rng.random() < 0.5:
                pair.reverse()
            yield pair[0], pair[1]
            if len(seen) == count:
                return
        raise InputError(
            f"count: {count} is more than task {self.name!r} supplies for split {split!r}; "
            f"valid: at most {len(seen)}"
        )

    def pairs(self, split: str, count: int, seed: int) -> list[Pair]:
        """`count` distinct pairs; which member is the prompt is random. Raises what `members` raises."""
        return [
            Pair(one.prompt, other.prompt, one.completion, other.completion)
            for one, other in self.members(split, count, seed)
        ]


def cut(marked: str) -> Member:
    """Cuts a program at its marks: `"print('a«')\\n»"` has the prompt `"print('a"`."""
    prompt, _, tail = marked.partition("«")
    completion, _, rest = tail.partition("»")
    return Member(prompt, completion, rest)


def _fits(prompt: str, split: str) -> bool:
    return len(prompt) <= _LONGEST_PROMPT and split_of(prompt) == split


def split_of(prompt: str) -> str:
    """The one split in which `prompt` may occur."""
    digest = hashlib.blake2b(prompt.encode(), digest_size=1).digest()
    return _SPLIT_OF_HASH[digest[0] % len(_SPLIT_OF_HASH)]
