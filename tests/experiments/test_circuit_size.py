"""The study's config, and what its command says to a wrong input."""

import dataclasses
from pathlib import Path

import pytest

from experiments.configs.circuit_size import get_config
from experiments.studies.circuit_size.plan import StudyConfig, read_plan
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.recipe import SearchConfig
from sparse_jax.tasks.built_in import TASKS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("size", ["full", "quick", "tiny"])
def test_every_size_is_a_plan(size):
    config = get_config(f"size={size}").to_dict()
    plan = read_plan(config)
    assert set(config["tasks"]) <= set(TASKS) and (size == "tiny" or len(config["tasks"]) == 20)
    if size != "tiny":
        assert min(plan.study.targets) == 0.02 and max(plan.study.targets) == 0.5
        assert plan.study.headline == 0.15 and (plan.prune.k_coef, plan.prune.learning_rate) == (3e-3, 7e-3)


def test_every_field_can_be_overridden():
    config = get_config()
    sections = {"study": StudyConfig, "search": SearchConfig, "pruning": PruneConfig}
    for section, cls in {**sections, "edge_pruning": PruneConfig}.items():
        assert set(config[section]) == {field.name for field in dataclasses.fields(cls)}
    config.update_from_flattened_dict({"study.tasks_together": 20, "search.targets": (0.15,)})
    plan = read_plan(config.to_dict())
    assert plan.study.tasks_together == 20 and plan.search.targets == (0.15,)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--config.study.headline=0.0", "study.headline: 0.0 is not valid; valid: among the targets"),
        ("--sparse=nowhere", "nowhere"),
        (
            f"--sparse={ROOT}/experiments/results/wider",
            "models: validation losses sparse 1.788, dense 1.742; valid: at most 0.01 nats apart",
        ),
        ("--report", "--report: True is not valid; valid: without it: "),
    ],
)
def test_a_wrong_input_ends_with_one_line_and_nothing_written(command, tmp_path, given, said):
    config = ROOT / "experiments/configs/circuit_size.py"
    arguments = [f"--config={config}:size=tiny", f"--config.workdir={tmp_path / 'work'}"]
    result = command("circuit_size", *arguments, f"--output={tmp_path}/out", given)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and said in line
    assert list(tmp_path.iterdir()) == []
