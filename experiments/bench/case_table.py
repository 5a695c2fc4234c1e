"""The rows of measured cases as tables, and the machine that they are of."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from experiments.bench.cases import Row
from experiments.bench.processor import processor
from sparse_jax.runtime.processes import code_version
from sparse_jax.runtime.provenance import provenance

# In the heading instead of the columns.
_ABOUT = ("devices", "cpu", "jax", "python", "code")
_NOT_SHOWN = {*_ABOUT, "extent", "part", "key"}


def machine(extent: str) -> dict[str, str]:
    """The devices, the CPU, versions, a hash of the sources of library and benchmarks, and the extent."""
    digest = hashlib.blake2b(code_version()["the sources of sparse_jax"].encode(), digest_size=8)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    found = provenance()
    about = {name: found[name] for name in ("devices", "jax", "python")}
    return {**about, "cpu": processor()["cpu"], "code": digest.hexdigest(), "extent": extent}


def format_rows(rows: Sequence[Row]) -> str:
    """Markdown: a table for every part and kind of case, with a column for everything that its rows have."""
    kinds: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        # cases of a part that begin with another setting are of another kind
        kinds.setdefault((row["part"], list(row)[1]), []).append(row)
    heading = ", ".join(f"{name} {rows[0][name]}" for name in _ABOUT) if rows else "nothing is measured yet"
    lines = [f"# What was measured\n\n{heading}"]
    for (part, _), some in kinds.items():
        columns = list(dict.fromkeys(name for row in some for name in row if name not in _NOT_SHOWN))
        lines += [f"\n## {part}\n", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        lines += [f"| {' | '.join(_cell(row.get(name)) for name in columns)} |" for row in some]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/")
