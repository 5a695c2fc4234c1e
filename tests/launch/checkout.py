"""A checkout whose scripts start nothing real, and what they are told."""

import os
import shutil
import subprocess
from pathlib import Path

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

HEEDS_CTRL_C = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""

# As far as the scripts need it: a request that is there at once, and what its workers do (SSH).
GCLOUD = """
case "$4" in
  describe) [ -f there ] || { echo "ERROR: NOT_FOUND: no such resource" >&2; exit 1; }; cat there ;;
  create) echo ACTIVE > there ;;
  delete) rm there ;;
  *) SSH ;;
esac
"""


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
