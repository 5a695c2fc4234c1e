"""A script starts itself anew in large pages, once; an import does nothing of the kind."""

import importlib
import os
import sys

import pytest

import experiments


@pytest.fixture
def started(monkeypatch):
    """What would have been started, as (arguments, tunables)."""
    found = []
    monkeypatch.setattr(
        os, "execv", lambda _, arguments: found.append((arguments[1:], os.environ["GLIBC_TUNABLES"]))
    )
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "experiments.tasks", "--help"])
    monkeypatch.setenv("GLIBC_TUNABLES", "")
    return found


def test_a_script_goes_on_with_its_own_arguments_in_large_pages(monkeypatch, started):
    monkeypatch.setattr(sys, "argv", ["-m", "--help"])
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.top_pad=1")
    importlib.reload(experiments)
    assert started == [
        (["-m", "experiments.tasks", "--help"], "glibc.malloc.top_pad=1:glibc.malloc.hugetlb=1")
    ]
    importlib.reload(experiments)
    assert len(started) == 1


def test_an_import_or_another_system_starts_nothing(monkeypatch, started):
    importlib.reload(experiments)
    monkeypatch.setattr(sys, "argv", ["-m", "--help"])
    monkeypatch.setattr(sys, "platform", "darwin")
    importlib.reload(experiments)
    assert started == []
