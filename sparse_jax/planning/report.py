"""Formats plans as text."""

from collections.abc import Callable, Mapping

from sparse_jax.planning.plan import Record
from sparse_jax.planning.topologies import GIB


def format_record(record: Record) -> str:
    """The record of one program, one fact per line."""
    lines = [f"{record['program']} on {record['topology']}: {record['devices']} devices; {record['basis']}"]
    lines += _indented(_of_size(record))
    if "memory" not in record:
        return "\n".join(lines)
    lines += _indented(_of_memory(record["memory"], record["device_memory"]))
    lines += _indented(_of_work(record))
    if "seconds" in record:
        lines += _indented(_of_time(record))
    return "\n".join(lines)


def _indented(rows: Mapping[str, str]) -> list[str]:
    return [f"  {name:<22}{text}" for name, text in rows.items()]


def _of_size(record: Record) -> dict[str, str]:
    if record["program"] == "pruning":
        none = "DOES NOT FIT: not even one lane per device"
        lanes = f"{record['lanes']} lanes at once" if record["fits"] else none
        return {"lanes": f"{lanes}, each {record['pairs_per_step']} pairs of {record['context']} tokens"}
    asked, batch = record["asked"], record["batch_size"]
    rows = {"parameters": f"{record['parameters']:,}"}
    if record["fits"]:
        return rows | {"batch": f"{batch} x {record['context']} tokens fit"}
    largest = f"the largest batch that fits is about {batch}; the rest is for that batch"
    what = "no batch fits" if batch is None else largest
    return rows | {"batch": f"{asked} x {record['context']} tokens: DOES NOT FIT; {what}"}


def _of_memory(memory: Mapping[str, int], limit: int) -> dict[str, str]:
    rows = {f"{name} per device": f"{count / GIB:10.3f} GiB" for name, count in memory.items()}
    rows["device memory"] = f"{limit / GIB:10.3f} GiB ({100 * memory['peak'] / limit:.0f} % at the peak)"
    return rows


def _of_work(record: Record) -> dict[str, str]:
    flops = ", ".join(f"{count:.4g} {kind}" for kind, count in record["flops"].items())
    rows = {
        "FLOPs per step": f"{flops} (matrix products, all devices, from the traced program)",
        "memory traffic": f"{record['bytes'] / GIB:.4g} GiB per step and device",
    }
    for kind, found in sorted(record["collectives"].items()):
        each = f"{found['bytes'] / GIB:.4g} GiB in total, the largest {found['largest']:,.0f} bytes"
        rows[kind] = f"{found['count']:.0f} of {each}"
    if not record["collectives"]:
        rows["between devices"] = "nothing"
    guessed = record["guessed_loops"]
    if guessed["count"]:
        rows["guessed"] = f"{guessed['count']} loops of unknown length, taken to run {guessed['runs']} times"
    return rows


def _of_time(record: Record) -> dict[str, str]:
    seconds = record["seconds"]
    each = ", ".join(f"{name} {_duration(one)}" for name, one in seconds.items())

    def between(show: Callable[[float], str], ends: Mapping[str, float]) -> str:
        return f"at least {show(ends['least'])}; {show(ends['apart'])} without overlap"

    step = {"least": max(seconds.values()), "apart": sum(seconds.values())}
    return {
        "roofline": each,
        "step": between(_duration, step),
        f"{record['steps']:,} steps": between(lambda hours: f"{hours:,.1f} h", record["hours"]),
        f"at {record['price']:.2f} $ per hour": between(
            lambda dollars: f"{dollars:,.0f} $", record["dollars"]
        ),
    }


def _duration(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
