"""Is a circuit what the model uses? Figures with their intervals and ablations, and a verdict."""

import dataclasses
import html
import os
from collections.abc import Iterator

import numpy as np

from sparse_jax.ablation.applied import check_circuit
from sparse_jax.circuits.graph import Circuit
from sparse_jax.faithfulness.intervals import Interval, mean_interval, share_interval
from sparse_jax.faithfulness.probes import Probe, inner, matched_sets
from sparse_jax.files import json_text, write_whole
from sparse_jax.inputs import InputError, require
from sparse_jax.models.model import Model
from sparse_jax.progress import Progress
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.metrics import METRICS, logit_difference
from sparse_jax.tasks.task import Task

FORMAT = "sparse_jax.scorecard"
# Draws of an ablation that is random; sets of random nodes; pairs that those sets are measured on.
DRAWS, SETS, SET_PAIRS = 16, 100, 64
# A circuit is sufficient under an ablation if its loss is within this many times its target. It leans on the
# mean if it is sufficient under that alone.
MARGIN = 1.1
# It is necessary if this share of random sets of as many nodes does less harm, and decisive if this share of
# answers follows its values when they are swapped, but not when all others are.
NECESSARY, DECISIVE, UNMOVED = 0.95, 0.9, 0.25


@dataclasses.dataclass(frozen=True)
class Figure:
    """One measurement: its name, its value with a 95 % interval, and what closed nodes carry meanwhile.

    unit: "nats", "share", "ratio" or "correlation".
    """

    name: str
    interval: Interval
    unit: str
    ablation: str = ""


@dataclasses.dataclass(frozen=True, repr=False)
class Scorecard:
    """All figures of a circuit for a task, and what they come to.

    target: the loss in nats that the circuit was to reach. verdict: a sentence a rule.
    """

    task: str
    model: str
    pairs: int
    target: float
    figures: tuple[Figure, ...]
    verdict: tuple[str, ...]

    def value(self, name: str, ablation: str = "") -> float:
        """One of the figures. Raises InputError for a name that it has not."""
        for figure in self.figures:
            if (figure.name, figure.ablation) == (name, ablation):
                return figure.interval.value
        known = ", ".join(
            f"{one.name} ({one.ablation})" if one.ablation else one.name for one in self.figures
        )
        raise InputError(f"scorecard: {name!r} ({ablation}) is not measured; valid: {known}")

    def save(self, path: str | os.PathLike) -> None:
        """Writes it as JSON, whole or not at all."""
        figures = [
            {"name": one.name, "ablation": one.ablation, "unit": one.unit, **one.interval._asdict()}
            for one in self.figures
        ]
        about = {"task": self.task, "model": self.model, "pairs": self.pairs, "target": self.target}
        content = {"format": FORMAT, "version": 1, **about, "verdict": self.verdict, "figures": figures}
        write_whole(path, json_text(content, indent=1) + "\n")

    def __repr__(self) -> str:
        lines = [f"{self.task}, {self.pairs} pairs, target {self.target:g} nats"]
        for one in self.figures:
            low, high = (f"{end:.3f}" for end in one.interval[1:])
            name = f"{one.name}, {one.ablation}" if one.ablation else one.name
            lines.append(f"  {name:<58}{one.interval.value:>8.3f}  [{low}, {high}] {one.unit}")
        return "\n".join([*lines, *(f"- {sentence}" for sentence in self.verdict)])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(one.name)}</td><td>{html.escape(one.ablation)}</td>"
            f"<td>{one.interval.value:.3f}</td><td>{one.interval.low:.3f} to {one.interval.high:.3f}</td>"
            f"<td>{one.unit}</td></tr>"
            for one in self.figures
        )
        said = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in self.verdict)
        about = html.escape(f"{self.task}, {self.pairs} pairs, target {self.target:g} nats")
        head = "<tr><th>figure</th><th>ablation</th><th>value</th><th>95 % interval</th><th>unit</th></tr>"
        return f"<table><caption>{about}</caption>{head}{rows}</table><ul>{said}</ul>"


def measure_circuit(model: Model, circuit: Circuit, task: Task, pairs: int = 128, seed: int = 0) -> Scorecard:
    """The scorecard of a circuit on `pairs` pairs of the task's test split, and of its shifted split.

    Definitions are those of METHOD 8. Raises InputError for a circuit of another model, or of another task by
    the name in its provenance, fewer than two pairs, and a circuit without nodes or without a target.
    """
    check_circuit(model, circuit)
    found_for = circuit.provenance.get("task")
    require(
        found_for in (None, task.name), "task", task.name, f"{found_for!r}, which the circuit was found for"
    )
    require(len(circuit.nodes) > 0, "circuit", "no nodes", "a circuit of at least one node")
    target = circuit.losses.get("target")
    if target is None:
        raise InputError("circuit: it has no target loss; valid: a circuit found by sparse_jax")
    tokenizer, context = model.require_tokenizer(), model.config.context
    probe, shifted = (
        Probe(model, circuit, task.encode(split, pairs, seed, tokenizer, context))
        for split in ("test", "shifted")
    )
    figures: list[Figure] = []
    parts = (
        _sufficiency(probe),
        _necessity(probe, seed),
        _interchange(probe),
        _roles(probe),
        _shift(shifted),
    )
    bar = Progress(f"scorecard {task.name}", len(parts), "parts")
    for number, part in enumerate(parts, start=1):
        figures += part
        bar.update(number)
    bar.close()
    card = Scorecard(task.name, model.origin, pairs, float(target), tuple(figures), ())
    return dataclasses.replace(card, verdict=verdict_of(card))


def _sufficiency(probe: Probe) -> Iterator[Figure]:
    right = probe.pairs.candidates
    yield Figure("loss of the full model", mean_interval(METRICS["loss"](probe.full_logits, right)), "nats")
    for kind, draws in (("mean", 1), ("zero", 1), ("resample", DRAWS), ("mixture", DRAWS)):
        if draws > 1 and probe.circuit.edge_gated:
            continue  # gates of edges replace weights, and know constants only
        losses = probe.circuit_losses(kind, draws)
        yield Figure("loss of the circuit", mean_interval(losses.mean(axis=0)), "nats", kind)
        if draws > 1:
            yield Figure(
                f"loss of the circuit, worst of {draws} draws a pair",
                mean_interval(losses.max(axis=0)),
                "nats",
                kind,
            )
    full, found, empty = (
        logit_difference(probe.full_logits, right),
        probe.circuit_margins(),
        probe.empty_margins(),
    )
    span = float(np.mean(full) - np.mean(empty))
    shares = (found - np.mean(empty)) / span if abs(span) > 1e-6 else np.full(len(found), np.nan)
    yield Figure("faithfulness of the logit difference", mean_interval(shares), "ratio", _own(probe))


def _necessity(probe: Probe, seed: int) -> Iterator[Figure]:
    few = dataclasses.replace(probe, pairs=_first(probe.pairs, SET_PAIRS))
    own = {site: np.asarray(gate)[None] for site, gate in probe.nodes.items()}
    without = few.losses_without(own)[0]
    random_means = few.losses_without(matched_sets(probe.nodes, SETS, seed)).mean(axis=1)
    yield Figure("loss with the circuit ablated", mean_interval(without), "nats", _own(probe))
    yield Figure(
        f"loss with random nodes ablated, {SETS} sets", mean_interval(random_means), "nats", _own(probe)
    )
    milder = int((random_means < without.mean()).sum())
    yield Figure("random sets that do less harm", share_interval(milder, SETS), "share", _own(probe))


def _interchange(probe: Probe) -> Iterator[Figure]:
    for name, inverted in (("the circuit's", False), ("all other", True)):
        flipped = probe.swapped_margins(inner(probe.nodes, inverted)) < 0
        yield Figure(
            f"answers flipped by swapping {name} q, k, v and neurons",
            mean_interval(flipped.mean(axis=1)),
            "share",
        )


def _roles(probe: Probe) -> Iterator[Figure]:
    names = tuple(
        site for site in ("q", "k", "v", "mlp_neuron", "attn_out", "mlp_out") if site in probe.nodes
    )
    full, pruned = probe.activations(names)
    found = []
    for site in names:
        for layer, index in np.argwhere(probe.nodes[site] > 0):
            a, b = full[site][layer, :, index], pruned[site][layer, :, index]
            if a.std() > 1e-6 and b.std() > 1e-6:
                found.append(float(np.corrcoef(a, b)[0, 1]))
    if found:
        low, middle, high = np.quantile(found, [0.25, 0.5, 0.75])
        # the quartiles over nodes stand where other figures have an interval
        roles = Interval(float(middle), float(low), float(high))
        yield Figure(
            "kept nodes, in the circuit against in the model (median, quartiles)", roles, "correlation"
        )


def _shift(probe: Probe) -> Iterator[Figure]:
    right = probe.pairs.candidates
    yield Figure(
        "accuracy of the full model, shifted split",
        mean_interval(METRICS["accuracy"](probe.full_logits, right)),
        "share",
    )
    logits = probe.circuit_logits()
    yield Figure(
        "accuracy of the circuit, shifted split",
        mean_interval(METRICS["accuracy"](logits, right)),
        "share",
        _own(probe),
    )


def _own(probe: Probe) -> str:
    return str(probe.circuit.provenance.get("pruning", {}).get("ablation", "mean"))


def _first(pairs: EncodedPairs, count: int) -> EncodedPairs:
    return EncodedPairs(*(array[:count] for array in pairs))


def verdict_of(card: Scorecard) -> tuple[str, ...]:
    """What the figures come to, by the rules at the head of this module."""
    kinds = [one.ablation for one in card.figures if one.name == "loss of the circuit"]
    limit = MARGIN * card.target
    enough = [kind for kind in kinds if card.value("loss of the circuit", kind) <= limit]
    missed = [f"{kind} {card.value('loss of the circuit', kind):.2f}" for kind in kinds if kind not in enough]
    said = [
        f"Sufficient under {' and '.join(enough)} ablation."
        if enough
        else "Not sufficient under any ablation."
    ]
    if enough and missed:
        leaning = "It leans on the mean: under" if enough == ["mean"] else "Under"
        said.append(f"{leaning} other ablations its loss is too large ({', '.join(missed)} nats).")
    by_name = {one.name: one.interval for one in card.figures}
    milder = by_name["random sets that do less harm"]
    if milder.value >= NECESSARY:
        said.append("Necessary: without it the model fails, and random nodes are no such loss.")
    else:
        said.append(f"Not shown to be necessary: {1 - milder.value:.0%} of random sets do as much harm.")
    swapped = [interval.value for name, interval in by_name.items() if name.startswith("answers flipped")]
    if swapped[0] >= DECISIVE and swapped[1] <= UNMOVED:
        said.append("Decisive: answers follow its values, and not those of all other nodes.")
    else:
        said.append(
            f"Answers follow its values in {swapped[0]:.0%}, all other values in {swapped[1]:.0%} of cases."
        )
    return tuple(said)
