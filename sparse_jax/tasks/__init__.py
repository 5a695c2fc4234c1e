"""Tasks: pairs of prompts that differ only in what decides between two next tokens."""

import sys
from types import ModuleType


class _Room(ModuleType):
    """Hides the function of its name in the package, so it can be called: the names of the tasks."""

    def __call__(self) -> tuple[str, ...]:
        from sparse_jax.tasks.built_in import TASKS

        return tuple(TASKS)


sys.modules[__name__].__class__ = _Room
