import dataclasses
import json
import math

import pytest

from sparse_jax.data.config import DataConfig, SourceConfig, data_config
from sparse_jax.inputs import InputError

SIMPLE = {"kind": "simple_python"}


def test_defaults_of_each_kind():
    config = data_config(
        {"sources": {"a": SIMPLE, "b": {"kind": "python_source"}, "c": {"kind": "text", "paths": ["x.txt"]}}}
    )
    assert config.sources["a"] == SourceConfig("simple_python", 1.0, examples=40_000, seed=0)
    assert config.sources["b"] == SourceConfig("python_source", 1.0, paths=())
    assert config.sources["c"] == SourceConfig("text", 1.0, paths=("x.txt",))


def test_the_order_of_sources_changes_nothing():
    one = data_config({"sources": {"b": SIMPLE, "a": {**SIMPLE, "seed": 3}}})
    other = data_config({"sources": {"a": {**SIMPLE, "seed": 3}, "b": SIMPLE}})
    assert list(one.sources) == list(other.sources) == ["a", "b"]


def test_weights_add_up_to_one():
    config = data_config(
        {"sources": {"a": {**SIMPLE, "weight": 3}, "b": SIMPLE, "c": {**SIMPLE, "weight": 0}}}
    )
    assert config.weights == {"a": 0.75, "b": 0.25, "c": 0.0}


def test_survives_json():
    config = data_config(
        {
            "sources": {"a": SIMPLE, "b": {"kind": "python_source", "paths": ["x", "y"], "max_bytes": 7}},
            "directory": "somewhere",
            "validation_fraction": 0.1,
        }
    )
    assert data_config(json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_built_by_hand_it_is_checked_too():
    with pytest.raises(InputError, match=r"^data\.sources\.a\.weight: -1\.0 "):
        DataConfig({"a": SourceConfig("simple_python", weight=-1.0)})


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, r"data\.sources: missing"),
        ({"sources": {}}, r"data\.sources: \{\} is not valid; valid: at least one source"),
        ({"sources": 3}, r"data\.sources: 3 is not valid"),
        ({"sources": {"a": 3}}, r"data\.sources\.a: 3 is not valid"),
        ({"sources": {"a": {}}}, r"data\.sources\.a\.kind: missing"),
        ({"sources": {"a/b": SIMPLE}}, r"data\.sources\.a/b: 'a/b' is not valid; valid: letters"),
        ({"sources": {"a": {"kind": "python_sorce"}}}, r"a\.kind: 'python_sorce' .* mean 'python_source'\?"),
        ({"sources": {"a": {**SIMPLE, "wieght": 1.0}}}, r"a\.wieght: unknown field; did you mean 'weight'\?"),
        ({"sources": {"a": {**SIMPLE, "weight": -0.5}}}, r"a\.weight: -0\.5 is not valid"),
        ({"sources": {"a": {**SIMPLE, "weight": math.nan}}}, r"a\.weight: nan is not valid"),
        ({"sources": {"a": {**SIMPLE, "weight": math.inf}}}, r"a\.weight: inf is not valid"),
        ({"sources": {"a": {**SIMPLE, "weight": "1"}}}, r"a\.weight: '1' is a str; valid: float"),
        ({"sources": {"a": {**SIMPLE, "weight": 0}}}, r"data\.sources: weights: \{'a': 0\.0\} is not valid"),
        ({"sources": {"a": {**SIMPLE, "examples": 1}}}, r"a\.examples: 1 is not valid; valid: at least 2"),
        ({"sources": {"a": {**SIMPLE, "seed": -1}}}, r"a\.seed: -1 is not valid"),
        ({"sources": {"a": {**SIMPLE, "paths": ["x"]}}}, r"a\.paths: .*simple_python does not use it"),
        (
            {"sources": {"a": {"kind": "text", "paths": ["x"], "seed": 0}}},
            r"a\.seed: 0 .*text does not use it",
        ),
        ({"sources": {"a": {"kind": "python_source", "max_bytes": 0}}}, r"a\.max_bytes: 0 is not valid"),
        (
            {"sources": {"a": {"kind": "python_source", "paths": "x"}}},
            r"a\.paths: 'x' is a str; valid: tuple",
        ),
        ({"sources": {"a": {"kind": "python_source", "paths": [3]}}}, r"a\.paths: \(3,\) is not valid"),
        ({"sources": {"a": {"kind": "text"}}}, r"a\.paths: \(\) is not valid; valid: at least one file"),
        (
            {"sources": {"a": SIMPLE}, "validation_fraction": 1},
            r"data\.validation_fraction: 1\.0 is not valid",
        ),
        ({"sources": {"a": SIMPLE}, "validation_fraction": 0.0}, r"data\.validation_fraction: 0\.0 is not"),
        ({"sources": {"a": SIMPLE}, "tokenizer_bytes": 0}, r"data\.tokenizer_bytes: 0 is not valid"),
        ({"sources": {"a": SIMPLE}, "folder": "x"}, r"data\.folder: unknown field"),
    ],
)
def test_what_is_refused(mapping, message):
    with pytest.raises(InputError, match=message) as caught:
        data_config(mapping)
    assert "\n" not in str(caught.value)
