"""Rows of plans are gone on with for the config that they are of, and for no other."""

import dataclasses
import json

import jax
import pytest

from experiments.studies.plan_table import config_digest, kept_rows
from sparse_jax.inputs import InputError
from tests.planning.test_plan import RUN

OTHER = dataclasses.replace(RUN, training=dataclasses.replace(RUN.training, batch_size=16))


@pytest.fixture
def path(tmp_path):
    rows = [{"config": config_digest(RUN), "d_model": width} for width in (32, 64)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "rows.jsonl"


def test_rows_of_the_same_config_are_kept(path):
    assert [row["d_model"] for row in kept_rows(path, dataclasses.replace(RUN))] == [32, 64]


def test_without_a_file_there_are_none(tmp_path):
    assert kept_rows(tmp_path / "rows.jsonl", RUN) == []


def test_rows_of_another_config_are_refused(path):
    with pytest.raises(InputError, match="--output: .*rows.jsonl contains plans of another config"):
        kept_rows(path, OTHER)


def test_rows_of_another_jax_are_refused(path, monkeypatch):
    monkeypatch.setattr(jax, "__version__", "0.0.1")
    with pytest.raises(InputError, match="or of another JAX than 0.0.1"):
        kept_rows(path, RUN)


@pytest.mark.parametrize("line", ['{"d_model": 32}', '{\n{"d_model": 32}', "[]"])
def test_what_is_no_row_is_refused(path, line):
    path.write_text(path.read_text() + line)
    with pytest.raises(InputError, match="--output: .*rows.jsonl contains"):
        kept_rows(path, RUN)
