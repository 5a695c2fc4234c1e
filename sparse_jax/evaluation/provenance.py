"""Where a result comes from: versions, commit, machine, time."""

import datetime
import hashlib
import platform
import subprocess
from pathlib import Path

import jax
import numpy as np

import sparse_jax
from sparse_jax.model.forward import Params
from sparse_jax.trees import named_leaves


def provenance() -> dict[str, str]:
    """What a reader needs to make a result again; the commit is "unknown" outside a git checkout."""
    return {
        "sparse_jax": sparse_jax.__version__,
        "commit": _commit(),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def weights_hash(params: Params) -> str:
    """Tells two models apart, wherever they are kept."""
    digest = hashlib.blake2b(digest_size=8)
    for name, leaf in named_leaves(params).items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _commit() -> str:
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        revision = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return revision.stdout.strip() + ("-modified" if changes.stdout.strip() else "")
