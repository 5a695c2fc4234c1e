"""What a task is: a name, and pairs of prompts in splits that share no prompt."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from tokenizers import Tokenizer

from sparse_jax.inputs import InputError, require, require_choice, whole, whole_seed
from sparse_jax.tasks.encode import EncodedPairs, encode_pairs
from sparse_jax.tasks.pair import Pair

# One draw in 2 to 16 gives a pair in a given split; far more draws mean that the task is exhausted.
_DRAWS_PER_PAIR = 200
_PAIRS_TO_SEE_COMPLETIONS = 200


@dataclass(frozen=True, repr=False)
class Task(ABC):
    """A binary next-token task (METHOD section 5), wherever its pairs come from.

    A subclass that is a dataclass says repr=False, to be shown as tasks are.
    """

    name: str
    family: str
    about: str

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits, of which no two share a prompt."""
        return ("train", "validation", "test")

    @property
    def shifts(self) -> tuple[str, ...]:
        """The kinds of shift, each of which has three more splits (see `shift_split`)."""
        return ()

    def __repr__(self) -> str:
        shifts = f"; shifts {', '.join(self.shifts)}" if self.shifts else ""
        return f"Task({self.name} ({self.family}): {self.about}{shifts})"

    def _repr_html_(self) -> str:
        from sparse_jax.tasks.show import task_html

        return task_html(self)

    @abstractmethod
    def pairs(self, split: str, count: int, seed: int) -> list[Pair]:
        """`count` distinct pairs, the same for the same arguments; no prompt is in two splits.

        Raises InputError for an unknown split, a count that is not positive, and a count greater than
        the task can supply.
        """

    def examples(self, count: int) -> list[Pair]:
        """A few pairs to look at. Raises InputError as `pairs` does."""
        return self.pairs("train", count, seed=0)

    def encode(self, split: str, count: int, seed: int, tokenizer: Tokenizer, context: int) -> EncodedPairs:
        """The pairs as arrays. Raises InputError as `pairs` and `encode_pairs` do."""
        return encode_pairs(self.pairs(split, count, seed), tokenizer, context, self.name)

    def completions(self) -> list[str]:
        """All completions of its prompts, sorted."""
        pairs = self.pairs("train", _PAIRS_TO_SEE_COMPLETIONS, seed=0)
        return sorted({text for pair in pairs for text in (pair.answer, pair.wrong)})

    def check(self, split: str, count: int, seed: int) -> None:
        """Raises InputError for an unknown split, a count of pairs below 1, and a seed that is none."""
        require_choice("split", split, self.splits)
        require(whole("count", count) > 0, "count", count, "a positive number of pairs")
        whole_seed("seed", seed)


def shift_split(kind: str, part: str) -> str:
    """The split of a kind of shift for "train", "validation" or "test"; the last has the kind's own name."""
    return kind if part == "test" else f"{kind}_{part}"


def part_of(split: str) -> str:
    """The part that a split of `shift_split` is for."""
    _, _, part = split.partition("_")
    return part or "test"


class Member(NamedTuple):
    """A complete program in three parts: `prompt`, `completion` (one token) and the rest."""

    prompt: str
    completion: str
    rest: str

    @property
    def program(self) -> str:
        return self.prompt + self.completion + self.rest


class DrawnTask(Task):
    """A task whose pairs are drawn at random, and kept if both prompts belong to the split."""

    @abstractmethod
    def draw(self, rng: Random, split: str) -> tuple[Member, Member]:
        """Two programs that differ only in what decides."""

    @abstractmethod
    def belongs(self, prompt: str, split: str) -> bool:
        """Whether `prompt` may occur in `split`; true for one split at most."""

    def members(self, split: str, count: int, seed: int) -> Iterator[tuple[Member, Member]]:
        """Yields the programs of `pairs`; which member comes first is random."""
        self.check(split, count, seed)
        rng = Random(f"{self.name}/{split}/{seed}")
        seen: set[frozenset[str]] = set()
        for _ in range(_DRAWS_PER_PAIR * count + 10_000):
            one, other = self.draw(rng, split)
            key = frozenset((one.prompt, other.prompt))
            if key in seen or not all(self.belongs(prompt, split) for prompt in key):
                continue
            seen.add(key)
            yield (other, one) if rng.random() < 0.5 else (one, other)
            if len(seen) == count:
                return
        raise InputError(
            f"count: {count} is more than task {self.name!r} supplies for split {split!r}; "
            f"valid: at most {len(seen)}"
        )

    def pairs(self, split: str, count: int, seed: int) -> list[Pair]:
        return [
            Pair(one.prompt, other.prompt, one.completion, other.completion)
            for one, other in self.members(split, count, seed)
        ]


def cut(marked: str) -> Member:
    """Cuts a program at its marks: `"print('a«')\\n»"` has the prompt `"print('a"`."""
    prompt, _, tail = marked.partition("«")
    completion, _, rest = tail.partition("»")
    return Member(prompt, completion, rest)
