"""Runs, data, models and circuits in a bucket, against an emulator: as on a disk, killed or not."""

import io
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from tensorboardX import record_writer

import sparse_jax as sj
from sparse_jax.circuits.graph import Circuit, Node
from sparse_jax.data import corpus as corpora
from sparse_jax.data.config import data_config, sources_of
from sparse_jax.data.corpus import prepare
from sparse_jax.files import user_path, write_whole
from sparse_jax.inputs import InputError
from sparse_jax.model.forward import param_shapes
from sparse_jax.models.formats import WRITABLE
from sparse_jax.models.model import Model
from sparse_jax.models.workdir import read_workdir
from sparse_jax.pruning.lane_file import LaneFile
from sparse_jax.pruning.store import Store
from sparse_jax.pruning.trials import Trial, Trials
from sparse_jax.runtime.writers import REWRITE_SECONDS, BucketLinesWriter, TensorBoardWriter, read_rows
from sparse_jax.training.config import run_config
from sparse_jax.training.loop import train
from tests.conftest import DEVICES
from tests.storage_server import Refused
from tests.tiny_run import tiny
from tests.training.test_loop import measured, same_parameters

ROOT = Path(__file__).parents[2]
# A run in a process of its own. A lock counts as left by a dead run after so many seconds.
CHILD = """
import json, sys
from sparse_jax import lease
from sparse_jax.training.config import run_config
from sparse_jax.training.loop import train
lease.LEASE_SECONDS = 2.0
with open(sys.argv[1]) as file:
    config = run_config(json.load(file))
train(config, sys.argv[2])
"""


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A run on a disk that is yet to begin: its folder, and its config with text and data there."""
    folder = tmp_path_factory.mktemp("here")
    mapping = tiny(folder)
    mapping["model"]["n_layers"] = 1
    return folder, mapping


@pytest.fixture(scope="module")
def here(planned):
    """The same run at its end: folder, config, model."""
    folder, mapping = planned
    return folder, mapping, train(run_config(mapping), folder / "run")


@pytest.fixture(scope="module")
def model(planned):
    """A model of its kind, with its tokenizer and weights that nothing has trained."""
    config, numbers = run_config(planned[1]), np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: np.float32(numbers.normal(size=leaf.shape)), param_shapes(config.model)
    )
    tokenizer = prepare(config.data, config.model.vocab_size).tokenizer
    return Model(config.model, params, tokenizer=tokenizer)


@pytest.fixture
def there(planned, bucket):
    """The same config with its text and data in a bucket."""
    folder, mapping = planned
    write_whole(f"{bucket}/text/mine.txt", (folder / "mine.txt").read_bytes())
    mine = {**mapping["data"]["sources"]["mine"], "paths": (f"{bucket}/text/mine.txt",)}
    data = {**mapping["data"], "directory": f"{bucket}/data"}
    return {**mapping, "data": {**data, "sources": {**data["sources"], "mine": mine}}}


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    yield
    assert not list((tmp_path / "cwd").iterdir())


def names(storage, bucket, prefix=""):
    return storage.names(bucket.removeprefix("gs://"), prefix)


def assert_same(here, workdir):
    folder, _, model = here
    workdir = user_path(workdir)
    assert same_parameters(read_workdir(workdir).params, model.params)
    assert measured(workdir) == measured(folder / "run")


@pytest.mark.slow
def test_a_run_has_the_bits_of_one_on_a_disk(here, there, bucket, storage):
    model = train(run_config(there), f"{bucket}/run")
    assert same_parameters(model.params, here[2].params) and model.origin == f"{bucket}/run at step 8"
    assert_same(here, f"{bucket}/run")
    top = {name for name in names(storage, bucket, "run/") if "/checkpoints/" not in name}
    assert top == {"run/config.json", "run/tokenizer.json", "run/metrics.jsonl"}  # and no lock any more
    loaded = sj.load(f"{bucket}/run")
    assert loaded.fingerprint == model.fingerprint and loaded.origin == model.origin
    assert same_parameters(train(run_config(there), f"{bucket}/run").params, model.params)  # at once
    other = run_config({**there, "training": {**there["training"], "seed": 1}})
    with pytest.raises(InputError, match=f"workdir: {bucket}/run contains a run with another config"):
        train(other, f"{bucket}/run")

    # a damaged checkpoint is set aside, and the one before it is used
    (damaged, *_) = (name for name in names(storage, bucket, "run/checkpoints/8/params/") if "/d/" in name)
    storage.put(bucket.removeprefix("gs://"), damaged, b"damaged")
    train(run_config(there), f"{bucket}/run")
    assert_same(here, f"{bucket}/run")
    steps = {name.split("/")[2] for name in names(storage, bucket, "run/checkpoints/")}
    assert steps == {"4", "8", "8.damaged"}

    # one that is not complete does not count
    storage.delete(bucket.removeprefix("gs://"), "run/checkpoints/8/commit_success.txt")
    assert read_workdir(user_path(f"{bucket}/run")).origin == f"{bucket}/run at step 4"


@pytest.mark.slow  # as on a full disk, in tests/training/test_survival.py
def test_a_checkpoint_that_cannot_be_written_is_named(there, bucket, storage):
    def before(method, _, name):
        if method != "GET" and name.startswith("run/checkpoints/8/"):
            raise Refused(403, "you do not have storage.objects.create")

    storage.before = before
    place = f"{bucket}/run/checkpoints"
    with pytest.raises(InputError, match=f"cannot write to {place} .*; complete steps there: 4$"):
        train(run_config(there), f"{bucket}/run")
    assert "run/.lock" not in names(storage, bucket)


def start(there, workdir, folder):
    """A process that trains."""
    (folder / "config.json").write_text(json.dumps(there))
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(DEVICES), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, folder / "config.json", workdir],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


class Killer:
    """Kills a process when it makes its `number`-th write to objects whose names begin with `prefix`."""

    def __init__(self, storage, bucket, prefix, number):
        self.process, self.hit = None, threading.Event()
        self.bucket, self.prefix, self.left = bucket.removeprefix("gs://"), prefix, number
        self.lock = threading.Lock()
        storage.before = self

    def __call__(self, method, bucket, name):
        if self.hit.is_set():
            raise Refused(503, "dead")
        counts = name.startswith(self.prefix) and not name.endswith(
            ".lock"
        )  # written as often as there is time
        if bucket == self.bucket and counts and method != "GET":
            with self.lock:
                self.left -= 1
                if self.left == 0:
                    self.hit.set()
                    self.process.send_signal(signal.SIGKILL)
                    self.process.wait()
                    raise Refused(503, "dead")


def killed(storage, bucket, there, folder, prefix, number):
    """Starts a run and kills it at that write; False if it ended before."""
    killer = Killer(storage, bucket, prefix, number)
    killer.process = start(there, f"{bucket}/run", folder)
    _, said = killer.process.communicate(timeout=300)
    storage.before = lambda *_: None
    assert killer.process.returncode in (0, -signal.SIGKILL), said
    return killer.hit.is_set()


def finish(there, bucket, folder):
    with start(there, f"{bucket}/run", folder) as process:
        _, said = process.communicate(timeout=300)
    assert process.returncode == 0 and "Traceback" not in said, said
    return said


@pytest.mark.slow
def test_a_run_killed_within_a_checkpoint_goes_on_to_the_same_bits(here, there, bucket, storage, tmp_path):
    assert killed(storage, bucket, there, tmp_path, "run/checkpoints/8/", 8)
    left = names(storage, bucket, "run/checkpoints/8/")
    assert left and "run/checkpoints/8/commit_success.txt" not in left
    assert f"{bucket}/run/.lock: of process" in finish(there, bucket, tmp_path)
    assert_same(here, f"{bucket}/run")
    assert "run/.lock" not in names(storage, bucket, "run/")


@pytest.mark.slow
def test_a_run_killed_at_any_write_goes_on_to_the_same_bits(here, there, bucket, storage, tmp_path):
    """At some of its writes: of metrics and config, and inside both checkpoints."""
    for number in itertools.count(1, 30):
        for name in names(storage, bucket, "run/"):
            storage.delete(bucket.removeprefix("gs://"), name)
        if not killed(storage, bucket, there, tmp_path, "run/", number):
            break
        killed(storage, bucket, there, tmp_path, "run/", number + 9)  # and once more on its way
        finish(there, bucket, tmp_path)
        assert_same(here, f"{bucket}/run")
    assert number > 50


def test_a_second_run_is_refused_before_it_prepares_anything(there, bucket, storage, tmp_path):
    prepared = []

    def before(method, _, name):
        if name.startswith("data/") and method == "POST":
            prepared.append(name)

    storage.before = before
    write_whole(f"{bucket}/run/.lock", json.dumps({"holder": "process 7 on there", "token": "x"}))
    stop = threading.Event()

    def renew():
        while not stop.wait(0.2):
            write_whole(f"{bucket}/run/.lock", json.dumps({"holder": "process 7 on there", "token": "x"}))

    thread = threading.Thread(target=renew)
    thread.start()
    with pytest.raises(
        InputError, match=f"workdir: {bucket}/run is in use by process 7 on there; valid: another"
    ):
        train(run_config(there), f"{bucket}/run")
    stop.set()
    thread.join()
    assert not prepared


def test_prepared_text_is_copied_not_built_again(there, bucket, storage, tmp_path, monkeypatch):
    data = run_config(there).data
    first = prepare(data, 300)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "of another machine"))
    with monkeypatch.context() as patched:
        patched.setattr(corpora, "_build", lambda *_: pytest.fail("built again"))
        second = prepare(data, 300)
    assert second.fingerprint == first.fingerprint
    for name, source in second.sources.items():
        assert np.array_equal(source.train, first.sources[name].train) and isinstance(source.train, np.memmap)
    # without its summary, which is written last, it is not there
    (summary,) = (name for name in names(storage, bucket) if name.endswith("corpus.json"))
    storage.delete(bucket.removeprefix("gs://"), summary)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "of a third"))
    assert prepare(data, 300).fingerprint == first.fingerprint and summary in names(storage, bucket)


def test_code_and_text_from_a_bucket(bucket, tmp_path):
    for number in range(40):
        content = f"x = {number}\n" * (number + 1)
        for place in (tmp_path / "code", user_path(f"{bucket}/code")):
            write_whole(place / f"{number % 3}" / f"{number}.py", content)
            write_whole(place / "notes.txt", "no code")
            write_whole(place / "bad.py", "x = (")
    found = []
    for number, place in enumerate((tmp_path / "code", f"{bucket}/code")):
        sources = sources_of((str(place), f"{place}/notes.txt"))
        assert {name: source["kind"] for name, source in sources.items()} == {
            "code": "python_source",
            "text": "text",
        }
        config = {"sources": {"code": sources["code"]}, "directory": str(tmp_path / f"data{number}")}
        found.append(prepare(data_config(config), 300))
    assert found[0].fingerprint == found[1].fingerprint and found[0].reports == found[1].reports
    write_whole(f"{bucket}/a.jsonl", '{"text": 1}\n')
    config = data_config(
        {"sources": {"a": {"kind": "text", "paths": (f"{bucket}/a.jsonl",)}}, "directory": str(tmp_path)}
    )
    with pytest.raises(InputError, match=f'data.sources.a.paths: {bucket}/a.jsonl, line 1: "text" is a int'):
        prepare(config, 300)


@pytest.mark.parametrize("format", WRITABLE)
def test_models_are_saved_in_a_bucket_and_loaded_again(model, bucket, storage, format):
    sj.save(model, f"{bucket}/models/{format}", format)
    loaded = sj.load(f"{bucket}/models/{format}")
    assert same_parameters(loaded.params, model.params) and loaded.origin == f"{bucket}/models/{format}"
    assert loaded.tokenizer.to_str() == model.tokenizer.to_str()
    with pytest.raises(InputError, match=f"{bucket}/models/{format}: exists"):
        sj.save(model, f"{bucket}/models/{format}", format)
    (config,) = (name for name in names(storage, bucket) if name.endswith("/config.json") or "beeg" in name)
    storage.put(bucket.removeprefix("gs://"), config, b"[]")
    with pytest.raises(InputError, match=f"^{bucket}/{config}: contains a list"):
        sj.load(f"{bucket}/models/{format}")
    with pytest.raises(InputError, match=f"model: {bucket}/models: no model was found there"):
        sj.load(f"{bucket}/models")
    with pytest.raises(InputError, match=f"model: {bucket}/none: does not exist"):
        sj.load(f"{bucket}/none")


def test_a_command_converts_from_bucket_to_bucket(model, bucket, storage, command):
    sj.save(model, f"{bucket}/model")
    done = command("convert", f"--from={bucket}/model", f"--to={bucket}/released", "--format=openai")
    assert done.returncode == 0, done.stderr
    assert "round trip: largest difference of a weight 0" in done.stdout
    assert f"bytes in {bucket}/released" in done.stdout and not (ROOT / "gs:").exists()
    assert len(names(storage, bucket, "released/")) == 3


@pytest.mark.slow
def test_the_main_path_in_a_bucket(bucket, storage, command):
    """Training, pruning and report, pruning by command with edges, and tasks of a model."""
    sides = [f"--config.{side}.data.directory={bucket}/data" for side in ("sparse", "dense")]
    tiny = "--config=experiments/configs/quickstart.py:size=tiny"
    done = command("quickstart", tiny, f"--config.workdir={bucket}/quick", *sides)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    made = names(storage, bucket, "quick/")
    circuit = "quick/sparse/circuits/class_init.json"
    assert {"quick/report.html", "quick/table.jsonl", circuit} <= {*made}
    model = f"--model={bucket}/quick/sparse"
    prune = [
        "--config=experiments/configs/prune.py",
        "--config.steps=5",
        "--config.target_loss=5.0",
        "--edges",
    ]
    done = command("prune", *prune, model, "--tasks=for_while", f"--output={bucket}/circuits")
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert any(name.endswith("for_while.json") for name in names(storage, bucket, "circuits/"))
    done = command("tasks", model, "--tasks=for_while", "--pairs=8", f"--output={bucket}/rows.jsonl")
    assert done.returncode == 0 and len(read_rows(f"{bucket}/rows.jsonl")) == 1


@pytest.mark.slow
def test_several_processes_train_in_a_bucket(here, there, bucket, storage, tmp_path):
    """One of two prepares the text; both save their parts of a checkpoint; killed, they go on."""
    mapping = {**there, "training": {**there["training"], "mesh_data": 1, "mesh_fsdp": -1}}
    (tmp_path / "run.json").write_text(json.dumps(mapping))
    whole = train(run_config(mapping), tmp_path / "whole")
    for attempt in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "tests.training.member", f"--run={tmp_path}/run.json"]
        command += [f"--workdir={bucket}/run", f"--coordinator=127.0.0.1:{port}", "--processes=2"]
        if attempt == 0:
            command += ["--before=7", "--what=kill"]
        environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": str(ROOT)}
        started = [
            subprocess.Popen(
                [*command, f"--process={index}"], env=environment, stderr=subprocess.PIPE, text=True
            )
            for index in range(2)
        ]
        said = [process.communicate(timeout=300)[1] for process in started]
        assert all(process.returncode == 0 for process in started) == (attempt == 1), said
    found, expected = (jax.tree.leaves(each.params) for each in (sj.load(f"{bucket}/run"), whole))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    assert [row["step"] for row in read_rows(f"{bucket}/run/metrics.jsonl") if "loss" in row] == list(
        range(1, 9)
    )


def test_circuits_and_searches(bucket):
    circuit = Circuit((Node(0, "q", 1),), (), ("q",), {}, {}, {}, {"task": "for_while", "identity": "i"})
    store = Store(f"{bucket}/circuits")
    store.keep(circuit, "for_while")
    assert (
        Store(f"{bucket}/circuits").circuit("i", "for_while")
        == circuit
        == sj.load_circuit(f"{bucket}/circuits/for_while.json")
    )
    with pytest.raises(InputError, match=f"{bucket}/none.json: circuit: cannot be read"):
        sj.load_circuit(f"{bucket}/none.json")
    for name, text in (("_nodes.txt", "0.attn.q:1"), ("_edges.csv", "source,target,value\n")):
        write_whole(f"{bucket}/released/x{name}", text)
    assert sj.load_circuit(f"{bucket}/released/x_nodes.txt").provenance["task"] == "x"
    sj.report([circuit], f"{bucket}/report.html")
    assert user_path(f"{bucket}/report.html").read_text().startswith("<!DOCTYPE html>")

    lanes = {"a": np.arange(3.0)}
    file = LaneFile(store.search("round.npz"), "lanes")
    assert file.load(lanes) is lanes
    file.save(lanes)
    again = LaneFile(store.search("round.npz"), "lanes").load({"a": np.zeros(3)})
    assert np.array_equal(again["a"], lanes["a"])
    Trials(store.search("t")).append_round([Trial(0, {"x": 1.0}, ())], {"tau": np.ones((1, 4))})
    found = Trials(store.search("t"))
    assert found.logits(found.trials[0])["tau"].shape == (4,)


def test_own_tasks(bucket):
    pair = {"prompt": "if x", "counterfactual": "x", "answer": " ==", "wrong": " ="}
    write_whole(f"{bucket}/tasks/mine.jsonl", json.dumps(pair))
    assert sj.task(f"{bucket}/tasks/mine.jsonl").name == "mine"
    draw = "x = WORD + str(rng.random())\n    return x + '«1»', x + '0«2»'"
    code = f"from word import WORD\n\ndef f(rng):\n    {draw}\n"
    write_whole(f"{bucket}/tasks/own.py", code)
    write_whole(f"{bucket}/tasks/word.py", "WORD = 'abc'\n")
    (drawn,) = sj.task(f"{bucket}/tasks/own.py:f").pairs("train", 1, 0)
    assert drawn.prompt.startswith("abc")
    with pytest.raises(InputError, match=f"task: cannot read '{bucket}/none.py'"):
        sj.task(f"{bucket}/none.py:f")


def test_metrics_are_kept_at_a_flush_and_from_time_to_time(bucket, storage, monkeypatch):
    path, writes = user_path(f"{bucket}/metrics.jsonl"), []
    storage.before = lambda method, *_: writes.append(method) if method == "POST" else None
    writer = BucketLinesWriter(path, 0, lambda: None)
    for step in range(1, 100):
        writer.write(step, {"loss": 1.0})
    assert len(writes) == 1 and read_rows(path) == []
    writer.flush()
    writer.flush()
    assert len(writes) == 2 and len(read_rows(path)) == 99
    writer._written -= REWRITE_SECONDS
    writer.write(100, {"loss": 1.0})
    assert len(read_rows(path)) == 100
    writer.write(101, {"loss": 1.0})
    writer.close()
    assert len(read_rows(path)) == 101
    resumed = BucketLinesWriter(path, 50, lambda: None)
    assert [row["step"] for row in read_rows(path)] == list(range(1, 51))

    def lost():
        raise InputError("taken over")

    resumed.write(51, {})
    resumed._still_held = lost
    with pytest.raises(InputError, match="taken over"):
        resumed.close()
    assert len(read_rows(path)) == 50


def test_tensorboard_events(bucket, storage):
    record_writer.GCSRecordWriter.__del__ = lambda self: None  # writes once more when the server is gone
    writer = TensorBoardWriter(user_path(f"{bucket}/tensorboard"))
    writer.write(1, {"loss": 2.5})
    writer.flush()
    writer.write(2, {"loss": 2.0})
    writer.close()
    (name,) = names(storage, bucket)
    content = storage.content(bucket.removeprefix("gs://"), name)
    assert name.startswith("tensorboard/events.out.tfevents") and content.count(b"loss") == 2


def test_arrays_of_means(bucket):
    from sparse_jax.model import sites
    from sparse_jax.models.means import load_means, save_means

    means = {site: np.ones((1, 2), np.float32) for site in sites.NODE_SITES}
    save_means(means, f"{bucket}/means.npz", "model")
    assert load_means(f"{bucket}/means.npz", "model").keys() == means.keys()
    with np.load(io.BytesIO(user_path(f"{bucket}/means.npz").read_bytes())) as file:
        assert str(file["model"]) == "model"
