"""Where a result comes from: versions, commit, machine, time."""

import datetime
import platform
import subprocess
from pathlib import Path

import jax

import sparse_jax


def provenance() -> dict[str, str]:
    """What a reader needs to reproduce a result; the commit is "unknown" outside a git checkout."""
    return {
        "sparse_jax": sparse_jax.__version__,
        "commit": _commit(),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _commit() -> str:
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        revision = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return revision.stdout.strip() + ("-modified" if changes.stdout.strip() else "")
