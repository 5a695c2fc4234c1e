"""The planning study: the runs that are planned, rows on disk, and their Markdown table."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import jax

from sparse_jax.inputs import InputError
from sparse_jax.planning.plan import Record
from sparse_jax.runtime.writers import read_rows
from sparse_jax.training.config import RunConfig


def config_digest(config: RunConfig) -> str:
    """A hash (12 hexadecimal digits) of a config and the JAX version: the "config" of a row."""
    return hashlib.sha256(f"{jax.__version__}\n{config.to_json()}".encode()).hexdigest()[:12]


def of_width(run: RunConfig, width: int) -> RunConfig:
    """The same run with another width; narrow models keep a larger share of weights, as channels need."""
    model = dataclasses.replace(run.model, d_model=width, d_mlp=0, n_heads=0)
    fraction = max(run.sparsity.fraction, run.sparsity.min_per_channel / width)
    return dataclasses.replace(
        run, model=model, sparsity=dataclasses.replace(run.sparsity, fraction=fraction)
    )


def kept_rows(path: Path, config: RunConfig) -> list[Record]:
    """The rows in `path`; none if it does not exist.

    Raises InputError naming --output if it contains something else, or rows of another config.
    """
    try:
        rows = read_rows(path)
    except InputError:
        raise InputError(f"--output: {path} contains no plans; valid: another folder") from None
    if {row.get("config") for row in rows} - {config_digest(config)}:
        raise InputError(
            f"--output: {path} contains plans of another config, or of another JAX than {jax.__version__}; "
            "valid: another folder, or the same config and JAX"
        )
    return rows


_COLUMNS = (
    "topology",
    "parameters",
    "batch that fits",
    "state",
    "temporaries",
    "peak (share of the device)",
    "PFLOPs per step",
    "memory traffic",
    "largest traffic between devices",
    "time per step, at least",
    "time per step without overlap",
    "hours",
    "$",
    "largest collective of the update with top-k, without; smallest matrix",
)


def markdown(records: Sequence[Record]) -> str:
    """A row for each training step, with the traffic of the update for the same topology and "d_model"."""
    updates = {(r["topology"], r["d_model"]): r for r in records if r["program"] == "update"}
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|---|" + "---:|" * (len(_COLUMNS) - 1)]
    for record in records:
        if record["program"] == "training":
            cells = _cells(record, updates.get((record["topology"], record["d_model"])))
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cells(record: Record, update: Record | None) -> list[str]:
    batch = f"{record['batch_size']}" if record["fits"] else f"{record['batch_size']} of {record['asked']}"
    cells = [record["topology"], _count(record["parameters"]), batch]
    if "memory" not in record:
        return cells
    memory, seconds = record["memory"], record["seconds"]
    state = memory["parameters"] + memory["optimizer"]
    kinds = record["collectives"]
    most = max(kinds, key=lambda kind: kinds[kind]["bytes"], default="nothing")
    cells += [
        _gigabytes(state),
        _gigabytes(memory["temporaries"]),
        f"{_gigabytes(memory['peak'])} ({100 * memory['peak'] / record['device_memory']:.0f} %)",
        f"{sum(record['flops'].values()) / 1e15:.3g}",
        _gigabytes(record["bytes"]),
        f"{most} {_gigabytes(kinds[most]['bytes'])}" if kinds else most,
        f"{1000 * max(seconds.values()):.0f} ms ({max(seconds, key=seconds.get)})",
        f"{1000 * sum(seconds.values()):.0f} ms",
        f"{record['hours']['least']:.1f} to {record['hours']['apart']:.1f}",
        f"{record['dollars']['least']:,.0f} to {record['dollars']['apart']:,.0f}",
    ]
    return cells if update is None else [*cells, _of_update(update)]


def _of_update(update: Record) -> str:
    with_it, without = (largest_collective(update[name]) for name in ("top_k", "dense"))
    return f"{_kilobytes(with_it)}, {_kilobytes(without)}; {_kilobytes(update['matrix'])}"


def largest_collective(kinds: dict[str, dict[str, float]]) -> float:
    """Bytes of the largest collective in `by_kind`; 0 if there is none."""
    return max((kind["largest"] for kind in kinds.values()), default=0)


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} B" if number >= 1e9 else f"{number / 1e6:.1f} M"


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.2f} GB"


def _kilobytes(count: float) -> str:
    return f"{count / 1e3:,.1f} kB"
