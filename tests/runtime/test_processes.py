"""Several processes for real: the same run as one, a lost or differing one named, none waiting for ever."""

import copy
import json
import re
import shutil
import signal
import socket
import sys
import time
import types

import jax
import numpy as np
import pytest
from jax._src import clusters

from sparse_jax.inputs import InputError
from sparse_jax.models.formats import load_model
from sparse_jax.runtime import joining, processes
from sparse_jax.runtime.processes import ProcessError
from sparse_jax.training.config import run_config
from sparse_jax.training.loop import train
from tests.training.test_loop import measured, same_parameters

SECONDS = 240


@pytest.fixture
def start(server):
    """Starts `count` processes, or those that are `present`; options: more flags for some, by index."""

    def several(count, mapping, workdir, devices=1, options=None, present=None, start_seconds=120, **more):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {"JAX_NUM_CPU_DEVICES": str(devices), "START_SECONDS": str(start_seconds), **more}
        started = []
        for index in range(count) if present is None else present:
            run = workdir.parent / f"{workdir.name}.{index}.json"
            run.write_text(json.dumps(mapping[index] if isinstance(mapping, list) else mapping))
            flags = [f"--run={run}", f"--workdir={workdir}", f"--coordinator=127.0.0.1:{port}"]
            flags += [f"--processes={count}", f"--process={index}", *(options or {}).get(index, [])]
            started.append(server.start("tests.training.member", *flags, environment=environment))
        return started

    return several


def end(started):
    """(exit status, stdout, stderr) of each; none is left behind."""
    try:
        deadline = time.monotonic() + SECONDS
        return [(one.wait(deadline - time.monotonic()), *one.printed()) for one in started]
    finally:
        for one in started:
            one.send_signal(signal.SIGKILL)


def losses(workdir):
    """By step: of training and, where it was measured, of held-out text."""
    rows = [row for row in measured(workdir) if "loss" in row or "validation/mixture" in row]
    return {(row["step"], "loss" in row): row.get("loss", row.get("validation/mixture")) for row in rows}


def assert_same(found, expected, rtol=1e-5):
    assert found.keys() == expected.keys()
    np.testing.assert_allclose([found[key] for key in expected], list(expected.values()), rtol=rtol)


def up_to(found, step):
    return {key: value for key, value in found.items() if key[0] <= step}


@pytest.fixture
def mapping(mapping):
    """With annealing and AbsTopK, over a mesh that every process has one device of."""
    mapping["sparsity"] = {"fraction": 0.25, "schedule": "linear", "anneal_end": 1.0}
    mapping["model"] |= {"activation_fraction": 0.5, "n_layers": 1}
    mapping["training"] |= {"mesh_data": 1, "mesh_fsdp": -1}
    return mapping


@pytest.fixture
def whole(mapping, tmp_path):
    """The losses of the run in one process, and its workdir."""
    train(run_config(mapping), tmp_path / "whole")
    return losses(tmp_path / "whole"), tmp_path / "whole"


def clean(said):
    return "Traceback" not in said and "Warning" not in said


@pytest.mark.slow
def test_two_processes_train_as_one_and_a_killed_one_is_named(start, mapping, whole, tmp_path):
    expected, _ = whole
    two = tmp_path / "two"
    # the second dies after the checkpoint of step 4
    (status, _, said), (killed, *_) = end(start(2, mapping, two, options={1: ["--before=7"]}))
    assert killed == -9 and status == 4
    assert clean(said) and re.search(
        r"error: after an error of the devices: waited 10 s for process 1 of 2.* \(.*\)", said
    ), said
    assert_same(losses(two), up_to(expected, 6))
    # what two saved, one goes on with
    train(run_config(mapping), two)
    assert_same(losses(two), expected)


@pytest.mark.slow
def test_two_processes_of_which_one_is_told_to_stop_save_and_go_on_bit_for_bit(start, mapping, tmp_path):
    undisturbed = start(2, mapping, tmp_path / "whole")
    stopped = start(2, mapping, tmp_path / "run", options={1: ["--before=2", "--what=stop"]})
    for status, _, said in end(undisturbed):
        assert status == 0, said
    stops = set()
    for status, _, said in end(stopped):
        assert status == 75 and clean(said), said
        stops |= set(re.findall(r"error: SIGTERM: stopped after step (\d+), which is saved in", said))
    (step,) = stops
    assert 2 <= int(step) < 8 and (tmp_path / "run" / "checkpoints" / step).is_dir()
    for status, _, said in end(start(2, mapping, tmp_path / "run")):
        assert status == 0 and clean(said), said
    assert measured(tmp_path / "run") == measured(tmp_path / "whole")
    found, expected = (load_model(tmp_path / name).params for name in ("run", "whole"))
    assert same_parameters(found, expected)


def test_a_mistake_in_one_process_ends_the_others_too(start, mapping, tmp_path):
    # what is trained does not matter, and each process compiles it
    mapping["model"] |= {"activation_fraction": None, "bias": False, "attention_sink": False}
    options = {1: ["--before=3", "--what=fail"]}
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled")}
    (status, _, said), (failed, _, why) = end(start(2, mapping, tmp_path / "run", options=options, **cache))
    both = f"{status}\n{said}\n{why}"
    assert failed == 1 and "Traceback" in why and why.endswith("error: LookupError: a mistake\n"), both
    assert status == 4 and "process 1 ended: LookupError: a mistake" in said and clean(said), said
    # a program that one process reads and the other compiles may never end on CPUs
    assert not (tmp_path / "compiled").exists()


@pytest.mark.parametrize(("status", "others"), [(1, 4), (2, 2), (3, 3), (4, 4), (75, 4)])
def test_what_no_restart_mends_has_the_same_status_in_all_processes(monkeypatch, status, others):
    """Else a scheduler may see the others end first, and start all of them again."""
    kept = {}

    class Store:
        def key_value_set(self, key, word, **_):
            kept[key] = word

        def key_value_dir_get(self, folder):
            return [(key, word) for key, word in kept.items() if key.startswith(folder)]

        def key_value_try_get(self, key):
            raise jax.errors.JaxRuntimeError(f"NOT_FOUND: {key}")

    monkeypatch.setattr(processes.multihost, "get_jax_distributed_client", Store)
    monkeypatch.setattr(processes.jax, "process_count", lambda: 3)
    monkeypatch.setattr(processes.jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(processes, "LOST_SECONDS", 0)
    for index, own in ((2, 4), (0, status)):
        monkeypatch.setattr(processes.jax, "process_index", lambda index=index: index)
        processes.tell_end(f"reason {index}", own)
    monkeypatch.setattr(processes.jax, "process_index", lambda: 1)
    with pytest.raises(ProcessError, match="^process 0 ended: reason 0; process 2 ended: reason 2$") as ended:
        processes.meet("somewhere", "")
    assert ended.value.status == others
    with pytest.raises(ProcessError) as after, processes.naming_lost():
        raise jax.errors.JaxRuntimeError("a connection was closed")
    assert after.value.status == others


@pytest.mark.slow
@pytest.mark.parametrize(("count", "mesh"), [(2, (1, 1, 2)), (4, (2, 1, 2)), (4, (1, 4, 2))])
def test_processes_go_on_with_what_one_saved(start, mapping, whole, tmp_path, count, mesh):
    """On meshes that split heads and neurons over processes too."""
    expected, one = whole
    workdir = tmp_path / "resumed"
    shutil.copytree(one, workdir)
    shutil.rmtree(workdir / "checkpoints" / "8")
    mapping["training"] |= dict(zip(("mesh_data", "mesh_fsdp", "mesh_tensor"), mesh))
    for status, out, said in end(start(count, mapping, workdir, devices=np.prod(mesh) // count)):
        assert status == 0 and clean(said), (out, said)
    assert_same(losses(workdir), expected)


@pytest.mark.slow
def test_four_processes_train_as_one(start, mapping, whole, tmp_path):
    for status, _, said in end(start(4, mapping, tmp_path / "four")):
        assert status == 0 and clean(said), said
    assert_same(losses(tmp_path / "four"), whole[0])


@pytest.mark.slow
def test_a_lost_coordinator_ends_the_others(start, mapping, tmp_path):
    """JAX itself ends them, saying that the leader died."""
    began = time.monotonic()
    (killed, *_), (status, _, said) = end(start(2, mapping, tmp_path / "two", options={0: ["--before=7"]}))
    assert killed == -9 and status not in (0, None) and time.monotonic() - began < SECONDS
    assert "leader task" in said or "process 0" in said, said


def test_processes_that_disagree_or_do_not_come_are_named_by_all(start, mapping, tmp_path):
    other = copy.deepcopy(mapping)
    other["optimizer"]["learning_rate"] = 0.03
    differing = start(2, [mapping, other], tmp_path / "differing")
    lonely = start(2, mapping, tmp_path / "lonely", present=[0], start_seconds=5)
    wrong = start(2, [mapping, {**mapping, "modle": {}}], tmp_path / "wrong")
    for status, _, said in end(differing):
        message = "processes disagree on optimizer.learning_rate: 0.02 in process 0, 0.03 in process 1"
        assert status == 2 and message in said, said
    for status, _, said in end(wrong):
        assert status in (2, 4) and "modle: unknown section; did you mean 'model'?" in said, said
    status, _, said = end(lonely)[0]
    assert status == 4 and "error: processes: waited 5 s for process 0 of 2 to meet the others" in said, said
    assert not any((tmp_path / name).exists() for name in ("differing", "lonely", "wrong"))


def said_line(process, part):
    """The first line of stderr with `part`; fails if the process ends before."""
    while True:
        ended = process.poll(seconds=0.05) is not None
        for line in process.printed()[1].splitlines(keepends=True):
            if part in line and line.endswith("\n"):
                return line
        assert not ended, f"ended without {part!r}"


def test_a_process_that_waits_for_the_others_says_so_and_both_signals_end_it(start, mapping, tmp_path):
    """Where JAX waits no signal reaches Python."""
    sent = {signal.SIGTERM: 75, signal.SIGINT: 130}
    lonely = {each: start(2, mapping, tmp_path / each.name, present=[1], start_seconds=200) for each in sent}
    try:
        for each, (process,) in lonely.items():
            line = said_line(process, "waiting")
            assert line.startswith("processes: waiting for process 1 of 2 to meet the others at 127.0.0.1:")
            process.send_signal(each)
        for each, (process,) in lonely.items():
            assert process.wait(timeout=60) == sent[each]
            assert process.printed()[1].count("\n") == 2
    finally:
        end([process for (process,) in lonely.values()])


def test_a_process_that_waits_where_all_meet_says_for_whom_and_ends_by_sigterm(server):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{free.getsockname()[1]}"
    both = [server.start("tests.runtime.meeting", where, index) for index in (0, 1)]
    try:
        assert said_line(both[0], "somewhere") == "somewhere: waiting for process 1 of 2\n"
        both[0].send_signal(signal.SIGTERM)
        assert both[0].wait(timeout=60) == 75
        assert both[0].printed()[0] == (
            "SIGTERM: stopped at once (somewhere: waited for process 1 of 2); "
            "the same command goes on from what is saved\n"
        )
    finally:
        end(both[:1])
        both[1].send_signal(signal.SIGKILL)


@pytest.fixture
def from_environment(monkeypatch):
    """Starts with these variables, as if JAX had seen no device yet; gives what it would join."""
    joined = {}

    def begin(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        joining.start()
        return joined

    def initialize(address=None, count=None, index=None, cluster_detection_method=None, **_):
        found = clusters.ClusterEnv.auto_detect_unset_distributed_params(
            address, count, index, None, cluster_detection_method, 1
        )
        if found[0] is None:
            raise ValueError("coordinator_address should be defined.")
        joined.update(zip(("address", "count", "index", "local"), found))

    monkeypatch.setattr(processes.jax.distributed, "initialize", initialize)
    return begin


SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}


def test_a_step_of_one_task_waits_for_no_other_of_its_job_and_has_all_gpus(from_environment):
    """As in an interactive shell, or under srun -n1."""
    assert from_environment(**SLURM, SLURM_NTASKS="2", SLURM_STEP_NUM_TASKS="1") == {}


def test_mpirun_with_one_process_leaves_it_all_gpus(from_environment):
    uri = {"OMPI_MCA_orte_hnp_uri": "4096.0;tcp://10.0.0.1:3"}
    one = {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}
    assert from_environment(**uri, **one) == {}


@pytest.mark.parametrize(
    ("tasks", "gpus", "said"),
    [("2(x2)", "8", "2 on this machine use 1 each of its 8 GPUs"), ("2(x2)", "2", ""), ("4,2", "4", "")],
)
def test_the_tasks_of_a_step_meet_and_gpus_that_they_leave_are_named(
    from_environment, monkeypatch, capfd, tasks, gpus, said
):
    monkeypatch.setattr(processes.jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(processes.jax, "local_devices", lambda: ["one"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    steps = {"SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_TASKS_PER_NODE": tasks}
    joined = from_environment(**SLURM, **steps, SLURM_GPUS_ON_NODE=gpus)
    assert (joined["address"].split(":")[0], joined["count"], joined["local"]) == ("node1", 4, [0])
    err = capfd.readouterr().err
    assert said in err and bool(err) == bool(said)


def test_a_pod_whose_service_account_has_no_token_is_told_what_to_do(from_environment, monkeypatch):
    """With a stand-in for the package, which raises what it raises there."""

    class ConfigException(Exception):
        pass

    def load_incluster_config():
        raise ConfigException("Service token file does not exist.")

    package = types.ModuleType("kubernetes")
    package.config = types.SimpleNamespace(load_incluster_config=load_incluster_config)
    monkeypatch.setitem(sys.modules, "kubernetes", package)
    with pytest.raises(InputError) as refused:
        from_environment(KUBERNETES_SERVICE_HOST="10.0.0.1")
    assert str(refused.value) == (
        "processes: JAX cannot tell how they meet (ConfigException: Service token file does not exist.); "
        "valid: a service account that may read pods, jobs and services; "
        "--coordinator, --processes and --process, or --nocluster for a process of its own"
    )
    joining.start(detect=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("localhost:1", 2, None), "--process: None is not valid; valid: all of --coordinator"),
        (("localhost:1", 2, 2), "--process: 2 is not valid; valid: 0 to 1"),
        (("localhost", 2, 0), "--coordinator: 'localhost' is not valid; valid: HOST:PORT"),
        (("localhost:1", 0, 0), "--processes: 0 is not valid; valid: at least 1"),
    ],
)
def test_flags_that_do_not_fit_together_are_named(arguments, said):
    with pytest.raises(InputError, match=said):
        joining.start(*arguments)


@pytest.mark.parametrize(
    "variables", [{"OMPI_COMM_WORLD_SIZE": "4"}, {"SLURM_STEP_NUM_TASKS": "2"}, {"JOB_COMPLETION_INDEX": "0"}]
)
def test_a_launcher_that_jax_does_not_recognize_is_named(monkeypatch, variables):
    """Else every process would train a model of its own, all into one workdir."""

    def not_recognized(*_, **__):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(processes.jax.distributed, "initialize", not_recognized)
    joining.start()  # alone
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        InputError, match=f"processes: {next(iter(variables))} is .; valid: --coordin".replace(";", ".*;")
    ):
        joining.start()
    joining.start(detect=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OMPI_COMM_WORLD_SIZE", "4"),
        ("SLURM_STEP_NUM_TASKS", "2"),
        ("JOB_COMPLETION_INDEX", "1"),
        ("SPARSE_JAX_HOSTS", "several"),
    ],
)
def test_what_one_process_does_is_not_done_by_several(monkeypatch, name, value):
    joining.stay_alone()
    monkeypatch.setenv(name, value)
    message = (
        f"processes: {name} is {value}, but this command runs in one process; valid: launch/local.sh, .*"
    )
    with pytest.raises(InputError, match=message + "--nocluster"):
        joining.stay_alone()
    joining.stay_alone(detect=False)
    monkeypatch.setenv(name, "1")
    if name != "JOB_COMPLETION_INDEX":
        joining.stay_alone()
    with pytest.raises(InputError, match="--coordinator: .*one process; valid: launch/local.sh"):
        joining.stay_alone("localhost:1", 2, 0, detect=False)


def test_the_code_version_tells_changed_sources(monkeypatch, tmp_path):
    (tmp_path / "a.py").write_text("1")
    monkeypatch.setattr(processes.sparse_jax, "__file__", str(tmp_path / "__init__.py"))
    before = processes.code_version()
    assert processes.code_version() == before
    (tmp_path / "a.py").write_text("2")
    after = processes.code_version()
    assert [name for name in before if before[name] != after[name]] == ["the sources of sparse_jax"]
