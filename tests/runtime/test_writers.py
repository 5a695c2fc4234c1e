"""Metric rows: whole lines, nothing twice after a resume, events for TensorBoard."""

import pytest

from sparse_jax.inputs import InputError
from sparse_jax.runtime.writers import JsonLinesWriter, TensorBoardWriter, read_rows


def test_rows_after_the_resumed_step_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writer = JsonLinesWriter(path)
    for step in (1, 2, 3):
        writer.write(step, {"loss": step / 2})
    writer.close()
    with path.open("a") as file:
        file.write('{"step": 4, "lo')  # a kill in the middle of a line
    assert [row["step"] for row in read_rows(path)] == [1, 2, 3]
    writer = JsonLinesWriter(path, resume_step=2)
    writer.write(3, {"loss": 9})
    writer.close()
    assert read_rows(path) == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 1.0}, {"step": 3, "loss": 9}]


def test_a_damaged_line_before_others_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": 2\n{"a": 3}\n')
    with pytest.raises(InputError, match="rows.jsonl: line 2 is damaged"):
        read_rows(path)


def test_a_row_that_is_no_object_is_named_and_one_that_is_not_finite_is_null(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n[2]\n')
    with pytest.raises(InputError, match="rows.jsonl: line 2 is damaged"):
        read_rows(path)
    path.write_bytes(b"\xff\n")
    with pytest.raises(InputError, match="rows.jsonl: cannot be read"):
        read_rows(path)
    writer = JsonLinesWriter(path)
    writer.write(1, {"loss": float("nan")})
    writer.close()
    assert path.read_text() == '{"step": 1, "loss": null}\n'


def test_a_fresh_run_starts_a_fresh_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n')
    JsonLinesWriter(path).close()
    assert read_rows(path) == []


def test_tensorboard_gets_the_numbers(tmp_path):
    writer = TensorBoardWriter(tmp_path)
    writer.write(3, {"loss": 1.25, "note": "text is left out"})
    writer.close()
    events = next(tmp_path.iterdir()).read_bytes()
    assert b"loss" in events and b"note" not in events


def test_a_full_disk_is_named_and_the_whole_rows_stay(tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = JsonLinesWriter(tmp_path / "metrics.jsonl")
    writer.write(1, {"loss": 0.5})
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, before[1]))
    try:
        with pytest.raises(InputError, match=r"metrics.jsonl: cannot be written \(File too large\)"):
            writer.write(2, {"loss": 0.25})
        writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert read_rows(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 0.5}]
