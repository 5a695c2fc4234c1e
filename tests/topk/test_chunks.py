"""Rows in chunks: the same numbers, in parts that fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_jax.topk import chunks
from sparse_jax.topk.chunks import in_chunks, rows_at_once


@pytest.fixture(autouse=True)
def lone_cpu(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    monkeypatch.setattr(chunks, "CACHE_BYTES", 100)


@pytest.mark.parametrize(
    "rows, row_bytes, part",
    [
        (60, 10, 10),
        (40, 10, 10),
        (30, 10, 30),  # three parts would fit: not worth a loop
        (63, 10, 9),
        (62, 10, 62),  # parts of 2 would be mostly loop
        (12, 1000, 1),
    ],
)
def test_parts_divide_and_fit(rows, row_bytes, part):
    assert rows_at_once(rows, row_bytes) == part


def test_several_devices_get_all_rows_at_once(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert rows_at_once(60, 10) == 60


def test_every_row_gets_its_own_result():
    x, y = jnp.arange(120.0).reshape(60, 2), jnp.arange(60.0)
    seen = []

    def function(x, y):
        seen.append(x.shape)
        return {"sum": x.sum(axis=1) + y, "x": 2 * x}

    found = in_chunks(function, [x, y], 10)
    assert seen == [(10, 2)]
    np.testing.assert_array_equal(found["sum"], x.sum(axis=1) + y)
    np.testing.assert_array_equal(found["x"], 2 * x)


@pytest.mark.parametrize(
    "found, cpus, expected",
    [
        ({"index0": ("1", "32K"), "index2": ("2", "512K"), "index3": ("3", "32768K")}, 1, 512 << 10),
        ({"index2": ("2", "512K")}, 2, 1 << 20),
        ({"index2": ("2", "256K")}, 3, 768 << 10),
        ({"index2": ("2", "512K")}, 64, 1 << 20),
        ({"index2": ("2", "2048K")}, 1, 1 << 20),
        ({"index0": ("1", "32K")}, 1, 1 << 20),
        ({"index2": ("2", "much")}, 1, 1 << 20),
        ({}, 1, 1 << 20),
    ],
)
def test_a_chunk_fits_the_second_caches_of_the_cpus(tmp_path, found, cpus, expected):
    for name, (level, size) in found.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "level").write_text(f"{level}\n")
        (tmp_path / name / "size").write_text(f"{size}\n")
    assert chunks.cache_bytes(tmp_path, cpus) == expected
