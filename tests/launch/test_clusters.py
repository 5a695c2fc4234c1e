"""slurm.sh and jobset.sh: what is submitted, and when it is started again."""

import os
import subprocess

import yaml

from tests.launch.checkout import JOBSET, TRAIN


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
