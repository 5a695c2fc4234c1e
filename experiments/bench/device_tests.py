"""Runs the tests that are marked `accelerator`, file by file, on the devices of this machine."""

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

import jax

from sparse_jax.inputs import InputError

ROOT = Path(__file__).parents[2]
MARK = "accelerator"


def marked_files() -> list[str]:
    """The files with such tests, relative to the checkout. Raises InputError if there are none."""
    found = [
        path for path in sorted((ROOT / "tests").rglob("test_*.py")) if f"mark.{MARK}" in path.read_text()
    ]
    if not found:
        raise InputError(f"--part: tests: {ROOT} has none marked {MARK}; valid: a whole checkout")
    return [path.relative_to(ROOT).as_posix() for path in found]


def run_file(name: str) -> list[dict[str, object]]:
    """How many tests of a file passed, failed and were left out; an "error" names those that failed."""
    platform = {"gpu": "cuda,cpu", "tpu": "tpu,cpu"}.get(jax.default_backend(), "cpu")
    settings = {
        "JAX_PLATFORMS": platform,
        "SPARSE_JAX_TEST_DEVICES": "1",
        "SPARSE_JAX_TEST_OPTIMIZED": "1",
        # the tests' references are in float32, of whose products a GPU computes 10 bits otherwise
        "JAX_DEFAULT_MATMUL_PRECISION": "highest",
        # this process already has most of the device's memory
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        chosen = ["-p", "no:xdist", "-m", f"{MARK} and not slow", f"--junitxml={report}", name]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *chosen],
            cwd=ROOT,
            env=os.environ | settings,
            capture_output=True,
            text=True,
        )
        if not report.exists():
            return [{"error": f"pytest ended with {done.returncode}: {done.stderr.strip()[-300:]}"}]
        return [_counted(ET.parse(report).getroot(), done)]


def _counted(report: ET.Element, done: subprocess.CompletedProcess) -> dict[str, object]:
    tests = list(report.iter("testcase"))
    bad = [test.get("name") for test in tests if {"failure", "error"} & {child.tag for child in test}]
    left_out = sum(test.find("skipped") is not None for test in tests)
    row = {"passed": len(tests) - len(bad) - left_out, "failed": len(bad), "left_out": left_out}
    if done.returncode:
        print(done.stdout[-4000:], file=sys.stderr)
        row["error"] = f"failed: {', '.join(bad)}" if bad else f"pytest ended with {done.returncode}"
    return row
