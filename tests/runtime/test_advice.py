"""Large pages and a folder for compiled programs: said once, and only to who gains by them."""

import platform
import sys

import jax
import pytest

from sparse_jax.runtime import advice


@pytest.fixture
def on_linux(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.39"))
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    advice.advise.cache_clear()
    yield
    advice.advise.cache_clear()


def test_it_is_said_once_and_keeps_other_wishes(on_linux, monkeypatch, capsys):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.top_pad=1")
    advice.advise()
    advice.advise()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "GLIBC_TUNABLES=glibc.malloc.top_pad=1:glibc.malloc.hugetlb=1 " in said.err


def test_nothing_is_said_to_who_asked_already(on_linux, monkeypatch, capsys):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    advice.advise()
    assert capsys.readouterr().err == ""


def test_without_a_folder_for_compiled_programs_one_is_named_once(on_linux, monkeypatch, capsys):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    folder = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        advice.advise()
        advice.advise()
    finally:
        jax.config.update("jax_compilation_cache_dir", folder)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.count("JAX_COMPILATION_CACHE_DIR=FOLDER") == 1
    assert 'jax.config.update("jax_compilation_cache_dir", FOLDER)' in said


@pytest.mark.parametrize(
    "system, library, backend", [("darwin", "", "cpu"), ("linux", "", "cpu"), ("linux", "glibc", "gpu")]
)
def test_nothing_is_wished_where_it_does_not_help(system, library, backend):
    assert advice.wished("", "linux", "glibc", "cpu")
    assert not advice.wished("", system, library, backend)
