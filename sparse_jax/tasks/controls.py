"""Controls of a task (METHOD 8): the same prompts with answers that the model has no reason to give.

Circuits can be found for these too, so only what is found for the task and not for its controls says
something about the model.
"""

import hashlib
import keyword
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from sparse_jax.inputs import InputError
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.pair import Pair
from sparse_jax.tasks.task import Task

Control = Callable[[EncodedPairs, Task, Tokenizer, int], EncodedPairs]

_WORD = re.compile(r" [A-Za-z]{2,}")
_NAME = re.compile(r"[A-Za-z_]\w*")


def nonsense(encoded: EncodedPairs, task: Task, tokenizer: Tokenizer, seed: int) -> EncodedPairs:
    """Replaces the two answers by two unrelated words, the same for every pair of the task.

    If a task has many answers, the one of a pair with the smaller token id gets the first word.
    """
    words = np.array(unrelated_words(task, tokenizer), np.int32)
    answer, wrong = encoded.candidates[..., 0], encoded.candidates[..., 1]
    second = (answer > wrong).astype(np.int32)
    return encoded._replace(candidates=words[np.stack([second, 1 - second], axis=-1)])


def constant(encoded: EncodedPairs, task: Task, tokenizer: Tokenizer, seed: int) -> EncodedPairs:
    """Both members of every pair have the same right answer: the token with the smaller id."""
    return encoded._replace(candidates=np.sort(encoded.candidates, axis=-1))


def shuffled(encoded: EncodedPairs, task: Task, tokenizer: Tokenizer, seed: int) -> EncodedPairs:
    """In a random half of the pairs (by `seed`), right and wrong are exchanged for both members."""
    name = int.from_bytes(hashlib.blake2b(task.name.encode(), digest_size=4).digest())
    exchanged = np.random.default_rng([seed, name]).random(len(encoded.candidates)) < 0.5
    candidates = np.where(exchanged[:, None, None], encoded.candidates[..., ::-1], encoded.candidates)
    return encoded._replace(candidates=candidates)


def hashed(encoded: EncodedPairs, task: Task, tokenizer: Tokenizer, seed: int) -> EncodedPairs:
    """A hash of a prompt's first name decides between the two answers: an arbitrary function of the prompt.

    Unlike `nonsense` it does not rename the task's answers, and what decides the task does not help.
    """
    tokens, last = encoded.tokens.reshape(-1, encoded.tokens.shape[-1]), encoded.last.reshape(-1)
    prompts = tokenizer.decode_batch(
        [row[: end + 1].tolist() for row, end in zip(tokens, last)], skip_special_tokens=False
    )
    second_B = np.array([_hash_bit(f"{task.name}/{_first_name(prompt)}") for prompt in prompts])
    low_high = np.sort(encoded.candidates, axis=-1)
    second = second_B.reshape(encoded.last.shape)
    return encoded._replace(candidates=np.where(second[..., None], low_high[..., ::-1], low_high))


def _first_name(prompt: str) -> str:
    """The first identifier that is no keyword; the whole prompt if there is none."""
    names = (name for name in _NAME.findall(prompt) if not keyword.iskeyword(name))
    return next(names, prompt)


def _hash_bit(text: str) -> bool:
    return hashlib.blake2b(text.encode(), digest_size=1).digest()[0] % 2 == 1


CONTROLS: dict[str, Control] = {
    "nonsense": nonsense,
    "hashed": hashed,
    "constant": constant,
    "shuffled": shuffled,
}


@dataclass(frozen=True, repr=False)
class ControlTask(Task):
    """A control of `task`; it has the same pairs, and changes the answers when they are encoded."""

    task: Task
    control: str

    @classmethod
    def of(cls, task: Task, control: str) -> "ControlTask":
        """The control of `task` by its name in CONTROLS."""
        return cls(f"{task.name}.{control}", task.family, f"{control} control: {task.about}", task, control)

    @property
    def splits(self) -> tuple[str, ...]:
        return self.task.splits

    @property
    def shifts(self) -> tuple[str, ...]:
        return self.task.shifts

    def pairs(self, split: str, count: int, seed: int) -> list[Pair]:
        return self.task.pairs(split, count, seed)

    def examples(self, count: int) -> list[Pair]:
        return self.task.examples(count)

    def completions(self) -> list[str]:
        return self.task.completions()

    def encode(self, split: str, count: int, seed: int, tokenizer: Tokenizer, context: int) -> EncodedPairs:
        encoded = self.task.encode(split, count, seed, tokenizer, context)
        return CONTROLS[self.control](encoded, self.task, tokenizer, seed)


def unrelated_words(task: Task, tokenizer: Tokenizer) -> tuple[int, int]:
    """Two tokens made of a space and a word, chosen by the task's name; neither completes the task.

    Raises InputError if the vocabulary has no two such tokens.
    """
    taken = {completion.strip() for completion in task.completions()}
    words = {tokenizer.decode([token]): token for token in tokenizer.get_vocab().values()}
    free = sorted(text for text in words if _WORD.fullmatch(text) and text.strip() not in taken)
    if len(free) < 2:
        raise InputError(f"tokenizer: {len(free)} whole words for {task.name}.nonsense; valid: two or more")

    def rank(text: str) -> bytes:
        return hashlib.blake2b(f"{task.name}/{text}".encode()).digest()

    one, other = sorted(free, key=rank)[:2]
    return words[one], words[other]
