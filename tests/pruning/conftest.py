"""Fixtures of the tests of pruning."""

import pytest

from sparse_jax.circuits import narrowing


@pytest.fixture
def one_width(monkeypatch):
    """A judge has a single program, of the full width, for tests that look at something else."""
    monkeypatch.setattr(narrowing, "PARTS", (1,))
