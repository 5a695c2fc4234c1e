"""Large pages: said once, and only to who gains by them."""

import platform
import sys

import jax
import pytest

from sparse_jax.runtime import pages


@pytest.fixture
def on_linux(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.39"))
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    pages.advise.cache_clear()
    yield
    pages.advise.cache_clear()


def test_it_is_said_once_and_keeps_other_wishes(on_linux, monkeypatch, capsys):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.top_pad=1")
    pages.advise()
    pages.advise()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "GLIBC_TUNABLES=glibc.malloc.top_pad=1:glibc.malloc.hugetlb=1 " in said.err


def test_nothing_is_said_to_who_asked_already(on_linux, monkeypatch, capsys):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    pages.advise()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "system, library, backend", [("darwin", "", "cpu"), ("linux", "", "cpu"), ("linux", "glibc", "gpu")]
)
def test_nothing_is_wished_where_it_does_not_help(system, library, backend):
    assert pages.wished("", "linux", "glibc", "cpu")
    assert not pages.wished("", system, library, backend)
