"""Pairs of the built-in tasks, drawn once for all tests: only one draw in many is of a split to judge on."""

import functools

from sparse_jax.tasks.built_in import TASKS
from sparse_jax.tasks.pair import Pair
from sparse_jax.tasks.task import Member

SEED, MOST = 0, 100


def members(name: str, split: str, count: int = MOST) -> list[tuple[Member, Member]]:
    """The first of `TASKS[name].members(split, MOST, SEED)`."""
    return _all(name, split)[:count]


def pairs(name: str, split: str, count: int = MOST) -> list[Pair]:
    """The same as `TASKS[name].pairs` gives them, which test_task.py compares."""
    return [
        Pair(one.prompt, other.prompt, one.completion, other.completion)
        for one, other in members(name, split, count)
    ]


@functools.cache
def _all(name: str, split: str) -> list[tuple[Member, Member]]:
    return list(TASKS[name].members(split, MOST, SEED))
