"""What the fields of a config take from the command line."""

import pytest
from absl import flags
from ml_collections import config_flags

from experiments import flag_types
from experiments.configs.pretrain import get_config
from sparse_jax.data.config import sources_of
from sparse_jax.inputs import InputError
from sparse_jax.training.config import run_config


def read(*arguments):
    values, given = flags.FlagValues(), ["x", *arguments]
    config = get_config("size=tiny")
    found = config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=given)
    values(given)
    return run_config(found.value.to_dict())


def test_optional_fields_take_none():
    assert read().model.activation_fraction == 0.25
    assert read("--config.model.activation_fraction=None").model.activation_fraction is None
    assert read("--config.model.activation_fraction=0.5").model.activation_fraction == 0.5


@pytest.mark.parametrize("field", ["model.d_model", "optimizer.learning_rate", "data.directory"])
def test_other_fields_refuse_none(field):
    with pytest.raises(InputError, match=f"{field}: None is a NoneType; valid: "):
        read(f"--config.{field}=None")


@pytest.mark.parametrize(
    "given", [["q,k"], ["('q', 'k')"], ["['q', 'k']"], ["q", "k"], ["q, k"]], ids=" ".join
)
def test_tuples_take_items_between_commas_and_python(given):
    assert read(*(f"--config.model.topk_sites={one}" for one in given)).model.topk_sites == ("q", "k")


def test_a_whole_source_comes_from_the_command_line():
    wanted = "{'mine': {'kind': 'text', 'paths': ('a.txt',), 'weight': 2.0}}"
    (source,) = read(f"--config.data.sources={wanted}").data.sources.values()
    assert (source.kind, source.paths, source.weight) == ("text", ("a.txt",), 2.0)
    assert source.examples is None


def test_names_are_each_given_once():
    values = flags.FlagValues()
    flags.DEFINE(flag_types._Names(), "tasks", ["a"], "", flag_values=values)
    values(["x", "--tasks=b,c"])
    assert values["tasks"].value == ["b", "c"]
    with pytest.raises(flags.IllegalFlagValueError, match="'b' is given 2 times; valid: each once"):
        values(["x", "--tasks=b,c,b"])


def test_paths_alone_become_sources(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "code").mkdir()
    (tmp_path / "x.txt").touch()
    values = flags.FlagValues()
    flags.DEFINE(flag_types._Paths(), "data", None, "", flag_values=values)
    values(["x", f"--data=~/code,{tmp_path}/x.txt"])
    assert sources_of(values["data"].value) == {
        "code": {"kind": "python_source", "paths": (f"{tmp_path}/code",)},
        "text": {"kind": "text", "paths": (f"{tmp_path}/x.txt",)},
    }
