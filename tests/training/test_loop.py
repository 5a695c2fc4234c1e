"""Whole runs: they learn, resume bit for bit, stop when they must, and refuse what is not theirs."""

import dataclasses
import json
import threading
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from sparse_jax.inputs import InputError
from sparse_jax.models.formats import load_model
from sparse_jax.runtime.writers import read_rows
from sparse_jax.training import loop, program
from sparse_jax.training.config import run_config
from sparse_jax.training.loop import train
from sparse_jax.training.nonfinite import NonFiniteError
from tests.programs import made_once

TIMING = ("tokens_per_second",)


def measured(workdir):
    rows = read_rows(workdir / "metrics.jsonl")
    return [{name: value for name, value in row.items() if name not in TIMING} for row in rows]


def same_parameters(a, b):
    return jax.tree.all(jax.tree.map(lambda x, y: bool(np.array_equal(x, y)), a, b))


class Killed(BaseException):
    """Stands for whatever ends a process without asking."""


def die():
    raise Killed


def kill_after(monkeypatch, steps, how=die):
    """The next run dies when it asks for batch number `steps` + 1 of its life, or `how` is called then."""
    original = loop.train_loader

    class Dying:
        def __init__(self, loader):
            self.loader, self.left = loader, steps

        def __getattr__(self, name):
            return getattr(self.loader, name)

        def __iter__(self):
            return self

        def __next__(self):
            if self.left == 0:
                how()
            self.left -= 1
            return next(self.loader)

    monkeypatch.setattr(loop, "train_loader", lambda *args, **options: Dying(original(*args, **options)))


@pytest.fixture(scope="module")
def made():
    return made_once(loop.train_program)


@pytest.fixture
def programs_once(made, monkeypatch):
    """Runs of one config share their program, with those of other tests that ask for this, too."""
    monkeypatch.setattr(loop, "train_program", made)


@pytest.mark.usefixtures("programs_once")
def test_a_run_learns_stays_sparse_and_resumes_bit_for_bit(config, tmp_path, monkeypatch):
    whole = train(config, tmp_path / "whole")
    rows = measured(tmp_path / "whole")
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == 8 and losses[-1] < losses[0] - 0.3
    evaluations = [row for row in rows if "kurtosis" in row]
    assert [row["step"] for row in evaluations] == [0, 4, 8]
    assert {"validation/simple", "validation/mine", "validation/mixture", "dead_neurons"} < set(
        evaluations[0]
    )
    assert "mask_turnover" in evaluations[1]
    assert evaluations[-1]["nonzero/layers/mlp/up/kernel"] == 2 * 16 * 64 // 2
    assert evaluations[-1]["nonzero/layers/attn/norm/scale"] == 2 * 16
    kernel = np.asarray(whole.params["layers"]["mlp"]["up"]["kernel"])
    assert all(np.count_nonzero(layer) == layer.size // 2 for layer in kernel)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 6)
        train(config, tmp_path / "killed")
    assert measured(tmp_path / "killed")[-1]["step"] == 6
    resumed = train(config, tmp_path / "killed")
    assert same_parameters(resumed.params, whole.params)
    assert measured(tmp_path / "killed") == rows

    again = train(config, tmp_path / "whole")
    assert same_parameters(again.params, whole.params)
    assert measured(tmp_path / "whole") == rows

    loaded = load_model(tmp_path / "whole")
    assert same_parameters(loaded.params, whole.params)
    assert run_config(loaded.run) == config and loaded.config == config.model
    assert loaded.tokenizer.to_str() == whole.tokenizer.to_str()
    assert loaded.tokenizer.encode("def f(x):").ids == whole.tokenizer.encode("def f(x):").ids

    other = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, learning_rate=0.5))
    before = sorted(path.name for path in (tmp_path / "whole").rglob("*"))
    with pytest.raises(
        InputError, match=r"contains a run with another config \(optimizer.learning_rate 0.02"
    ):
        train(other, tmp_path / "whole")
    assert sorted(path.name for path in (tmp_path / "whole").rglob("*")) == before


def test_a_run_ends_at_the_loss_that_it_is_to_reach(config, made, tmp_path, monkeypatch):
    def until(loss):
        return dataclasses.replace(config, training=dataclasses.replace(config.training, until_loss=loss))

    monkeypatch.setattr(loop, "train_program", lambda _: made(config))
    train(config, tmp_path / "whole")
    rows = measured(tmp_path / "whole")
    _, at_4, at_8 = [row["validation/mixture"] for row in rows if "validation/mixture" in row]
    assert at_8 < at_4
    # not at the first evaluation, before any step, though its loss is low enough
    for loss in (at_4, 100.0):
        ended = train(until(loss), tmp_path / f"until {loss}")
        assert ended.origin.endswith("at step 4")
        assert measured(tmp_path / f"until {loss}") == [row for row in rows if row["step"] <= 4]
    again = train(until(at_4), tmp_path / f"until {at_4}")
    assert same_parameters(again.params, ended.params)
    assert measured(tmp_path / f"until {at_4}")[-1]["step"] == 4
    with pytest.raises(InputError, match="another config .training.until_loss"):
        train(until(at_8), tmp_path / f"until {at_4}")
    train(until(at_4 * 0.999), tmp_path / "later")
    assert measured(tmp_path / "later") == rows


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(config, tmp_path, monkeypatch):
    original = program.make_train_step

    def exploding(*arguments):
        step = original(*arguments)

        def explode(state, tokens):
            factor = jax.numpy.where(state.step == 5, jax.numpy.nan, 1.0)
            params = jax.tree.map(lambda x: x * factor, state.params)
            return step(state.replace(params=params), tokens)

        return explode

    monkeypatch.setattr(program, "make_train_step", exploding)
    with pytest.raises(NonFiniteError, match="step 6 gave loss nan.* last good checkpoint is step 4"):
        train(config, tmp_path / "run")
    assert load_model(tmp_path / "run").origin.endswith("at step 4")
    params = load_model(tmp_path / "run").params
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


@pytest.mark.usefixtures("programs_once")
def test_a_checkpoint_that_cannot_be_written_is_named_and_older_ones_stay(config, tmp_path, monkeypatch):
    original = loop.Checkpoints.save

    def full_disk(self, step, trees, facts):
        if step == 8:
            self._manager.save = lambda *_, **__: (_ for _ in ()).throw(
                OSError(28, "No space left on device")
            )
        original(self, step, trees, facts)

    monkeypatch.setattr(loop.Checkpoints, "save", full_disk)
    with pytest.raises(
        InputError, match="checkpoint: cannot write .*No space left.* complete steps there: 4"
    ):
        train(config, tmp_path / "run")
    assert load_model(tmp_path / "run").origin.endswith("at step 4")


@pytest.mark.parametrize(
    ("section", "fields", "said"),
    [
        ("model", {"n_layres": 3}, "model.n_layres: unknown field; did you mean 'n_layers'?"),
        ("training", {"steps": "many"}, "training.steps: 'many' is a str; valid: int"),
        ("sparsity", {"fraction": 0.01}, "sparsity.fraction: layers/attn/k/bias at fraction 0.01 keeps 0"),
        ("training", {"batch_size": 3}, "training.batch_size: 3 does not divide over 4 devices"),
        ("training", {"mesh_fsdp": 3, "mesh_data": 1}, "valid: a product of 4"),
        ("training", {"until_loss": 0.0}, "training.until_loss: 0.0 is not valid; valid: above 0, or None"),
        (
            "training",
            {"until_loss": 2.0, "evaluate_every": 0, "checkpoint_every": 0},
            "training.evaluate_every: 0 is not valid; valid: at least 1 with training.until_loss",
        ),
        ("model", {"vocab_size": 100}, "vocab_size: 100"),
    ],
)
def test_a_config_that_cannot_work_leaves_nothing_behind(mapping, tmp_path, section, fields, said):
    mapping[section].update(fields)
    with pytest.raises(InputError) as error:
        train(run_config(mapping), tmp_path / "run")
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_unknown_sections_are_named(mapping):
    with pytest.raises(InputError, match="modle: unknown section; did you mean 'model'?"):
        run_config({**mapping, "modle": {}})
    del mapping["data"]
    with pytest.raises(InputError, match="data: the section is missing"):
        run_config(mapping)


@pytest.mark.usefixtures("programs_once")
def test_text_that_changed_since_is_refused(mapping, tmp_path, monkeypatch):
    config = run_config(mapping)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 5)
        train(config, tmp_path / "run")
    kept = (tmp_path / "run" / "tokenizer.json").read_bytes()
    text = tmp_path / "other.txt"
    text.write_text("\n\n".join(f"other text {i}" for i in range(400)))
    sources = {**config.data.sources}
    sources["mine"] = dataclasses.replace(sources["mine"], paths=(str(text),))
    changed = dataclasses.replace(config, data=dataclasses.replace(config.data, sources=sources))
    with pytest.raises(InputError, match=r"another config \(data.sources"):
        train(changed, tmp_path / "run")
    original = loop.prepare
    monkeypatch.setattr(loop, "prepare", lambda *_: original(changed.data, config.model.vocab_size))
    with pytest.raises(InputError, match="data: the text has changed since"):
        train(config, tmp_path / "run")
    assert (tmp_path / "run" / "tokenizer.json").read_bytes() == kept


def test_a_workdir_that_is_a_file_and_a_run_without_checkpoints_are_left_alone(config, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="workdir: .*file is a file"):
        train(config, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(config.to_json())
    training = dataclasses.replace(config.training, steps=9)
    with pytest.raises(InputError, match="another config .training.steps 8 there, 9 here"):
        train(dataclasses.replace(config, training=training), tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]


@pytest.mark.slow
@pytest.mark.usefixtures("programs_once")
def test_a_dense_run_saves_and_resumes_too(mapping, tmp_path, monkeypatch):
    mapping["sparsity"] = {}
    config = run_config(mapping)
    whole = train(config, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 5)
        train(config, tmp_path / "killed")
    assert same_parameters(train(config, tmp_path / "killed").params, whole.params)
    assert np.count_nonzero(whole.params["layers"]["mlp"]["up"]["kernel"]) == 2 * 16 * 64


@pytest.mark.usefixtures("programs_once")
def test_another_config_is_refused_though_its_file_is_gone(mapping, tmp_path):
    mapping["training"].update(steps=2, checkpoint_every=2, evaluate_every=0)
    train(run_config(mapping), tmp_path)
    (tmp_path / "config.json").unlink()
    before = sorted(path.name for path in tmp_path.rglob("*"))
    mapping["optimizer"]["learning_rate"] = 0.5
    with pytest.raises(InputError, match="another config .optimizer.learning_rate 0.02 there, 0.5 here"):
        train(run_config(mapping), tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    mapping["optimizer"]["learning_rate"] = 0.02
    train(run_config(mapping), tmp_path)
    assert (tmp_path / "config.json").exists()


def test_the_config_is_compared_again_while_nobody_else_can_write(mapping, tmp_path, monkeypatch):
    """Another command begins a run between the first look and the lock."""
    original = loop.held

    def overtaken(workdir):
        workdir.mkdir(exist_ok=True)
        other = {**mapping, "optimizer": {"learning_rate": 0.5}}
        (workdir / "config.json").write_text(run_config(other).to_json())
        return original(workdir)

    monkeypatch.setattr(loop, "held", overtaken)
    with pytest.raises(InputError, match="another config .optimizer.learning_rate 0.5 there, 0.02 here"):
        train(run_config(mapping), tmp_path / "run")


def test_a_config_survives_json(config):
    assert run_config(json.loads(config.to_json())) == config


def test_a_directory_without_a_run_is_named(tmp_path):
    with pytest.raises(InputError, match="model: .*no model was found there"):
        load_model(tmp_path)
    (tmp_path / "checkpoints" / "3" / "run").mkdir(parents=True)
    with pytest.raises(InputError, match="checkpoint: .*3 cannot be read"):
        load_model(tmp_path)


def test_the_step_compiles_while_the_untrained_model_is_evaluated(config, tmp_path, made, monkeypatch):
    compiled, evaluated, threads = threading.Event(), [], []

    class Step:
        def lower(self, *given):
            threads.append(threading.current_thread())
            lowered = own.step.lower(*given)
            return SimpleNamespace(compile=lambda: compiled.set() or lowered.compile())

    def evaluator(windows, weights):
        def evaluate(params):
            evaluated.append(compiled.wait(60))
            return {"validation/mixture": 1.0}

        return evaluate

    short = dataclasses.replace(config, training=dataclasses.replace(config.training, steps=1))
    own = made(short)
    monkeypatch.setattr(loop, "train_program", lambda _: own._replace(evaluator=evaluator, step=Step()))
    train(short, tmp_path)
    assert evaluated == [True, True]
    assert threads == [threading.main_thread()]  # whose settings the step is traced with
