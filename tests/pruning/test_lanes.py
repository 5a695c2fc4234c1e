"""Pruning finds the circuit that was put there; lanes are independent, grouped, resumed and reproducible."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_jax.circuits.gates import tie
from sparse_jax.inputs import InputError, from_mapping
from sparse_jax.model import sites
from sparse_jax.pruning import lanes as engine
from sparse_jax.pruning import program
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.lanes import make_lanes, optimize_gates
from sparse_jax.runtime import memory
from tests.planted import CIRCUIT, CONFIG, planted_gates, planted_pairs, planted_params

pytestmark = pytest.mark.accelerator

PRUNE = PruneConfig(
    steps=200, pairs_per_step=4, train_pairs=8, learning_rate=0.004, k_coef=0.01, target_loss=0.15
)
PAIRS = planted_pairs(8)
SHORT = dataclasses.replace(PRUNE, steps=12, init_scale=0.1, init_mean=0.0)


def model():
    shapes = sites.node_shapes(CONFIG)
    return planted_params(), {site: 0.1 * jnp.ones(shape) for site, shape in shapes.items()}


def run(prune, lanes, tasks=(PAIRS,), config=CONFIG, **given):
    return optimize_gates(config, prune, *model(), list(tasks), lanes, **given)


def prices(lanes, values):
    return lanes.replace(hyper=dataclasses.replace(lanes.hyper, k_coef=np.float32(values)))


def take(lanes, chosen):
    return jax.tree.map(lambda leaf: leaf[np.array(chosen)], lanes)


def assert_same(found, expected, chosen):
    for name, tau in found.logits.items():
        np.testing.assert_array_equal(tau, expected.logits[name][chosen], err_msg=name)
    for name, values in found.history.items():
        np.testing.assert_array_equal(values, expected.history[name][chosen], err_msg=name)


@pytest.fixture(scope="module")
def found():
    return run(PRUNE, prices(make_lanes(PRUNE, 2), [0.01, 0.0]))


def test_the_planted_circuit_is_found_exactly(found):
    gates = {site: np.float32(tau[0] >= 0) for site, tau in tie(found.logits).items()}
    for site, gate in planted_gates().items():
        np.testing.assert_array_equal(gates[site], gate, err_msg=site)
    assert found.history["open"].shape == (2, 200) and not found.failed.any()
    assert found.history["open"][0, 0] == 64 and found.history["open"][0, -1] == len(CIRCUIT)
    assert all(np.abs(tau).max() <= 1 for tau in found.logits.values())


def test_without_a_price_gates_stay_open(found):
    assert found.history["open"][1, -1] > 2 * found.history["open"][0, -1]


@pytest.fixture(scope="module")
def six():
    """Six lanes of two tasks of unequal length: prices and seeds differ."""
    short = planted_pairs(8, seed=3)
    long = short._replace(tokens=np.pad(short.tokens, ((0, 0), (0, 0), (0, 5)), constant_values=7))
    long = long._replace(last=long.last, candidates=long.candidates[:, ::-1].copy())
    tasks, lanes = [short, long], prices(make_lanes(SHORT, 3, 2), [0.01, 0.02, 0.0] * 2)
    return tasks, lanes, run(SHORT, lanes, tasks)


def test_lanes_of_several_tasks_differ_and_each_depends_on_itself_alone(six):
    tasks, lanes, all_six = six
    assert lanes.task.tolist() == [0, 0, 0, 1, 1, 1] and lanes.seed.tolist() == [0, 1, 2] * 2
    assert len({tuple(loss) for loss in all_six.history["loss"]}) == 6
    for chosen in ([4, 1], [5, 0]):
        assert_same(run(SHORT, take(lanes, chosen), tasks), all_six, chosen)
    # the other task is not even there
    alone = take(lanes, [3, 4]).replace(task=np.zeros(2, int))
    assert_same(run(SHORT, alone, tasks[1:]), all_six, [3, 4])


@pytest.fixture
def together(monkeypatch):
    """Lanes side by side, as on an accelerator."""
    monkeypatch.setattr(program, "LANES_TOGETHER", ("cpu", *program.LANES_TOGETHER))


@pytest.mark.several_devices
def test_lanes_side_by_side_run_in_groups_that_fit_and_it_is_said(six, together, monkeypatch, capsys):
    tasks, lanes, all_six = six
    # nine lanes on four devices are three on each
    lanes, chosen = take(lanes, [0, 1, 2] * 3), [0, 1, 2] * 3
    devices, needs = len(jax.devices()), []
    needed = memory.needed_bytes
    monkeypatch.setattr(memory, "needed_bytes", lambda run: needs.append(needed(run)) or needs[-1])
    at_once = run(SHORT, lanes, tasks)
    for name, tau in at_once.logits.items():
        np.testing.assert_allclose(tau, all_six.logits[name][chosen], atol=1e-5)
    assert capsys.readouterr().err.count("groups") == 0
    monkeypatch.setattr(memory, "free_bytes", lambda devices: needs[0] - 1)
    in_groups = run(SHORT, lanes, tasks)
    for name, tau in in_groups.logits.items():
        np.testing.assert_allclose(tau, at_once.logits[name], atol=1e-5)
    assert f"prune: 9 lanes in 2 groups of {2 * devices}: a lane needs about" in capsys.readouterr().err
    three, again, one, two = needs[:4]
    assert one < two < three == again
    monkeypatch.setattr(memory, "free_bytes", lambda devices: one - 1)
    with pytest.raises(InputError, match="pruning: one lane needs"):
        run(SHORT, lanes, tasks)


@pytest.mark.several_devices
def test_what_the_compiler_itself_refuses_runs_in_groups(six, together, monkeypatch, capsys):
    tasks, lanes, all_six = six
    lanes, compiled = take(lanes, [0, 1, 2] * 3), program._compiled

    def refusing(*given):
        if given[-2][-1].shape[0] > len(jax.devices()):  # more than one lane a device
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory")
        return compiled(*given)

    monkeypatch.setattr(program, "_compiled", refusing)
    found = run(SHORT, lanes, tasks)
    for name, tau in found.logits.items():
        np.testing.assert_allclose(tau, all_six.logits[name][[0, 1, 2] * 3], atol=1e-5)
    assert "9 lanes in 3 groups of 4: two do not fit and" in capsys.readouterr().err


def test_one_program_serves_every_task_target_and_price(six):
    tasks, lanes, _ = six
    run(SHORT, take(lanes, [0, 1]), tasks[:1])
    before = program._compiled.cache_info().misses
    other = dataclasses.replace(SHORT, target_loss=0.3, k_coef=0.5, seed=9)
    run(other, make_lanes(other, 2), [planted_pairs(8, seed=8)])
    assert program._compiled.cache_info().misses == before
    run(dataclasses.replace(SHORT, steps=13), take(lanes, [0, 1]), tasks[:1])
    assert program._compiled.cache_info().misses == before + 1


class Killed(Exception):
    pass


def test_a_killed_run_goes_on_with_the_same_bits(six, tmp_path, monkeypatch):
    tasks, lanes, all_six = six
    monkeypatch.setattr(engine, "CHUNK_SECONDS", 0.0)  # a step at a time
    monkeypatch.setattr(engine.LaneFile, "due", True)
    path, saves = tmp_path / "lanes.npz", []
    save = engine.LaneFile.save

    def killing(self, arrays):
        save(self, arrays)
        saves.append(arrays.states.step.copy())
        if len(saves) in (5, 9):
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(engine.LaneFile, "save", killing)
        for _ in range(2):
            with pytest.raises(Killed):
                run(SHORT, lanes, tasks, path=path)
    assert saves[4].max() == 5 and saves[8].max() == 9
    assert_same(run(SHORT, lanes, tasks, path=path), all_six, slice(None))
    # what is finished is not run again
    monkeypatch.setattr(engine, "_run_group", None)
    assert_same(run(SHORT, lanes, tasks, path=path), all_six, slice(None))
    assert [file.name for file in tmp_path.iterdir()] == ["lanes.npz"]
    with pytest.raises(InputError, match="lanes.npz: contains other lanes; valid: a path of its own"):
        run(SHORT, prices(lanes, [0.5] * 6), tasks, path=path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="lanes.npz: cannot be read"):
        run(SHORT, lanes, tasks, path=path)


def test_a_lane_that_breaks_down_is_told_and_harms_no_other(six):
    tasks, lanes, all_six = six
    rates = np.full(6, SHORT.learning_rate, np.float32)
    rates[1] = np.nan
    hyper = dataclasses.replace(lanes.hyper, learning_rate=rates)
    found = run(SHORT, lanes.replace(hyper=hyper), tasks)
    assert found.failed.tolist() == [False, True, False, False, False, False] and not all_six.failed.any()
    rest = [0, 2, 3, 4, 5]
    for name, tau in found.logits.items():
        np.testing.assert_array_equal(tau[rest], all_six.logits[name][rest])


def test_lanes_that_have_all_broken_down_are_run_no_further(six, monkeypatch):
    tasks, lanes, _ = six
    monkeypatch.setattr(engine, "CHUNK_SECONDS", 0.0)  # a step at a time
    hyper = dataclasses.replace(lanes.hyper, learning_rate=np.full(6, np.nan, np.float32))
    found = run(SHORT, lanes.replace(hyper=hyper), tasks)
    assert found.failed.all()
    # the loss before the first update is finite, that behind it is not, and nothing comes after
    loss = found.history["loss"]
    assert np.isfinite(found.history["open"][:, 0]).all() and np.isfinite(loss[:, 0]).all()
    assert np.isnan(loss[:, 1:]).all() and np.isnan(found.history["open"][:, 2:]).all()


@pytest.mark.parametrize(
    ("ablation", "objective"),
    [
        pytest.param("zero", "kl", marks=pytest.mark.slow),
        ("resample+stochastic", "binary+kl"),
        pytest.param("adversarial", "full_vocabulary", marks=pytest.mark.slow),
    ],
)
def test_every_ablation_and_objective_trains_and_counts(ablation, objective, six):
    tasks, lanes, all_six = six
    lanes = take(lanes, [0])
    changed = dataclasses.replace(SHORT, ablation=ablation, objective=objective)
    losses = [
        run(prune, lanes, tasks).history["loss"]
        for prune in (
            changed,
            dataclasses.replace(changed, objective="binary"),
            dataclasses.replace(changed, ablation="mean"),
        )
    ]
    assert all(np.isfinite(loss).all() for loss in losses)
    assert not np.allclose(losses[0], losses[1]) and not np.allclose(losses[0], losses[2])
    assert not np.allclose(losses[1], all_six.history["loss"][0])


def test_the_stream_outside_the_layers_is_gated_where_asked():
    prune = dataclasses.replace(SHORT, sites=sites.NODE_SITES)
    found = run(prune, make_lanes(prune))
    assert found.logits["final_resid"].shape == found.logits["embed"].shape == (1, 8)
    found = run(SHORT, make_lanes(SHORT))
    assert set(tie(found.logits)) == set(sites.LAYER_SITES)


def test_means_of_the_embedding_are_needed_only_where_it_is_gated():
    params, means = model()
    del means["embed"]
    assert set(SHORT.ablation_sites) == set(means)
    found = optimize_gates(CONFIG, SHORT, params, means, [PAIRS], make_lanes(SHORT))
    assert_same(found, run(SHORT, make_lanes(SHORT)), slice(None))
    prune = dataclasses.replace(SHORT, sites=sites.NODE_SITES)
    assert set(prune.ablation_sites) == set(sites.NODE_SITES)
    fixed = make_lanes(SHORT).replace(fixed={"embed": np.ones((1, 8))})
    for asked, lanes in ((prune, make_lanes(prune)), (SHORT, fixed)):
        with pytest.raises(InputError, match=r"means\['embed'\]: missing; valid: \(8,\), the means of"):
            optimize_gates(CONFIG, asked, params, means, [PAIRS], lanes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tasks": []}, "tasks: [] is not valid; valid: at least one task"),
        ({"tasks": [planted_pairs(8), planted_pairs(9)]}, "tasks: [8, 9] is not valid; valid: equally many"),
        ({"tasks": [planted_pairs(3)]}, "pairs: 3 is not valid; valid: at least pruning.pairs_per_step 4"),
        ({"task": np.array([0, 1])}, "lanes.task: [0, 1] is not valid; valid: 0 to 0"),
        ({"seed": np.arange(3)}, "lanes: (2,) is not valid; valid: 3 along axis 0"),
        ({"fixed": {"q": np.ones((2, 1, 7))}}, "gates['q']: (2, 1, 7) is not valid; valid: (1, 8) after"),
        (
            {"fixed": {"qq": np.ones((2, 1, 7))}},
            "gates['qq']: (2, 1, 7) is not valid; valid: a site of nodes",
        ),
        ({"eligible": {"v->q": np.ones((2, 1, 8, 8))}}, "gates: 'v->q' is not an edge; "),
        ({"config": dataclasses.replace(CONFIG, n_layers=2)}, "means['attn_in']: (1, 8); valid: (2, 8), the"),
    ],
)
def test_lanes_that_cannot_run_are_named(change, said):
    tasks, config = change.pop("tasks", [planted_pairs(8)]), change.pop("config", CONFIG)
    with pytest.raises(InputError) as error:
        run(SHORT, make_lanes(SHORT, 2).replace(**change), tasks, config)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"target_loss": 0.0}, "pruning.target_loss: 0.0 is not valid; valid: above 0"),
        ({"sites": ("mlp",)}, "pruning.sites: 'mlp' is unknown"),
        ({"objective": "ce"}, "pruning.objective: 'ce' is unknown"),
        ({"ablation": "means"}, "pruning.ablation: 'means' is unknown; did you mean 'mean'?"),
        ({"train_pairs": 10}, "pruning.train_pairs: 10 is not valid; valid: at least pairs_per_step 64"),
        ({"k_coeff": 1e-3}, "pruning.k_coeff: unknown field; did you mean 'k_coef'?"),
    ],
)
def test_settings_that_cannot_work_are_named(fields, said):
    with pytest.raises(InputError) as error:
        from_mapping(PruneConfig, fields, "pruning")
    assert said in str(error.value)


@pytest.mark.parametrize("ablation", ["resample", "mean+resample_position", "zero+resample_text"])
@pytest.mark.parametrize("name", ["train_pairs", "validation_pairs", "test_pairs", "confirmation_pairs"])
def test_a_single_pair_of_a_split_has_nothing_to_be_resampled_from(ablation, name):
    """It is refused with the settings, not by the judge of that split after the training."""
    fields = {"pairs_per_step": ablation.count("+") + 1, name: 1}
    PruneConfig(**{**fields, name: 2}, ablation=ablation)
    PruneConfig(**{**fields, "pairs_per_step": 1}, ablation="mean")
    with pytest.raises(InputError) as error:
        PruneConfig(**fields, ablation=ablation)
    valid = f"at least 2 with pruning.ablation '{ablation}'" + (", or 0" if name[0] == "c" else "")
    assert str(error.value) == f"pruning.{name}: 1 is not valid; valid: {valid}"


def test_progress_shows_lanes_that_work_beside_one_that_broke_down():
    history = {name: np.array([[np.nan], [value]]) for name, value in (("loss", 0.5), ("open", 3.0))}
    assert engine._figures(history, np.arange(2), 0) == {"loss": 0.5, "open": 3}
    assert engine._figures(history, np.arange(1), 0)["open"] == 0
