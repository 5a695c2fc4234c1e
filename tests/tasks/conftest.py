"""Tokenizers trained on generated programs, shared by the tests of the tasks."""

import pytest

from sparse_jax.data.simple_python import programs
from sparse_jax.data.tokenizer import train_tokenizer


@pytest.fixture(scope="session")
def program_texts() -> list[str]:
    return list(programs(seed=0, count=6000))


@pytest.fixture(scope="session", params=(512, 1024, 2048))
def tokenizer(request, program_texts):
    """A tokenizer of each size that the library is used with."""
    return train_tokenizer(program_texts, request.param)


@pytest.fixture(scope="session")
def small_tokenizer():
    return train_tokenizer(list(programs(seed=0, count=500)), 600)
