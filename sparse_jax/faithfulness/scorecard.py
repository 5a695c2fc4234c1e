"""Is a circuit what the model uses? Figures with their intervals and ablations, and a verdict."""

import dataclasses
import html
import os
from collections.abc import Iterator, Mapping
from typing import Any

from sparse_jax.faithfulness.intervals import Interval
from sparse_jax.files import json_text, write_whole
from sparse_jax.inputs import InputError
from sparse_jax.phrases import counted

FORMAT = "sparse_jax.scorecard"
# Raised whenever a figure gets another name or definition, or a rule of the verdict changes.
VERSION = 3
# A circuit is sufficient under an ablation if its loss is within this many times its target. It leans on the
# mean if it is sufficient under that alone. It withstands an adversary within a greater multiple.
MARGIN, UNDER_ATTACK = 1.1, 2.0
# It is necessary if this share of random sets of as many nodes does less harm, and decisive if this share of
# answers follows its values when they are swapped, but not when all others are.
NECESSARY, DECISIVE, UNMOVED = 0.95, 0.9, 0.25
# A control with arbitrary answers should not reach the target, or take at least this many times the edges.
APART = 10.0
# At most so many nodes are named in a sentence.
NAMED = 8
# Names of figures that a rule or a table reads; backups have their number after the name.
CONSTANTS = "nodes that only hold a constant"
ROLES = "kept nodes, in the circuit against in the model"
QUARTILES = {"lower quartile": 0.25, "median": 0.5, "upper quartile": 0.75}
OTHER_SEEDS = "prunings from other seeds within the target on the test split"
BACKUP, CONTROL, LOSS, EDGES, TIMES = "backup", "control", ", loss", ", edges", ", times the circuit's edges"
GROWTH = ", growth of its nodes' effects once all before are gone"


@dataclasses.dataclass(frozen=True)
class Figure:
    """One measurement: its name, its value with a 95 % interval, and what closed nodes carry meanwhile.

    P-values and sizes of single circuits have no interval.

    unit: "nats", "share", "ratio", "correlation" and the like. nodes: those that it counts, by name, if a
    reader wants to know which.
    """

    name: str
    interval: Interval
    unit: str
    ablation: str = ""
    nodes: tuple[str, ...] = ()
    by_node: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, repr=False)
class Scorecard:
    """All figures of a circuit for a task, and what they come to.

    circuit: its fingerprint. target: the loss in nats that the circuit was to reach. verdict: a sentence a
    rule.
    """

    task: str
    model: str
    circuit: str
    pairs: int
    target: float
    figures: tuple[Figure, ...]
    verdict: tuple[str, ...]

    def value(self, name: str, ablation: str = "") -> float:
        """One of the figures. Raises InputError for a name that it does not have."""
        for figure in self.figures:
            if (figure.name, figure.ablation) == (name, ablation):
                return figure.interval.value
        known = ", ".join(
            f"{one.name} ({one.ablation})" if one.ablation else one.name for one in self.figures
        )
        raise InputError(f"scorecard: {name!r} ({ablation}) is not measured; valid: {known}")

    def to_json(self) -> dict[str, Any]:
        """Everything in it, as `save` writes it."""
        figures = [
            {"name": one.name, "ablation": one.ablation, "unit": one.unit, **one.interval._asdict()}
            | ({"nodes": one.nodes} if one.nodes else {})
            | ({"by_node": one.by_node} if one.by_node else {})
            for one in self.figures
        ]
        return {
            "format": FORMAT,
            "version": VERSION,
            "task": self.task,
            "model": self.model,
            "of": self.circuit,
            "pairs": self.pairs,
            "target": self.target,
            "verdict": self.verdict,
            "figures": figures,
        }

    def save(self, path: str | os.PathLike) -> None:
        """Writes it as JSON, whole or not at all."""
        write_whole(path, json_text(self.to_json(), indent=1) + "\n")

    def __repr__(self) -> str:
        lines = [f"{self.task}, {counted(self.pairs, 'pair')}, target {self.target:g} nats"]
        for one in self.figures:
            name = f"{one.name}, {one.ablation}" if one.ablation else one.name
            ends = f"{one.interval.ends('.3f')} ".lstrip()
            lines.append(f"  {name:<58}{one.interval.value:>8.3f}  {ends}{one.unit}")
        return "\n".join([*lines, *(f"- {sentence}" for sentence in self.verdict)])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(one.name)}</td><td>{html.escape(one.ablation)}</td>"
            f"<td>{one.interval.value:.3f}</td><td>{one.interval.ends('.3f')}</td>"
            f"<td>{one.unit}</td></tr>"
            for one in self.figures
        )
        said = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in self.verdict)
        about = html.escape(f"{self.task}, {counted(self.pairs, 'pair')}, target {self.target:g} nats")
        head = "<tr><th>figure</th><th>ablation</th><th>value</th><th>95 % interval</th><th>unit</th></tr>"
        return f"<table><caption>{about}</caption>{head}{rows}</table><ul>{said}</ul>"


def verdict_of(card: Scorecard) -> tuple[str, ...]:
    """What the figures come to, by the rules at the head of this module."""
    losses = {one.ablation: one.interval.value for one in card.figures if one.name == "loss of the circuit"}
    attacked = losses.pop("adversarial_shared", None)
    losses.pop("adversarial", None)  # it chooses for each prompt by itself, which nothing withstands
    enough = [kind for kind, loss in losses.items() if loss <= MARGIN * card.target]
    missed = [f"{kind} {loss:.2f}" for kind, loss in losses.items() if kind not in enough]
    said = ["Not sufficient under any ablation."]
    if enough:
        said = [f"Sufficient under {_listed(enough)} ablation."]
    if enough and missed:
        leaning = "It leans on the mean: under" if enough == ["mean"] else "Under"
        said.append(f"{leaning} other ablations its loss is too large ({', '.join(missed)} nats).")
    if attacked is not None and enough:
        holds = attacked <= UNDER_ATTACK * card.target
        word = "does not break it" if holds else "breaks it"
        said.append(
            f"An adversary that decides how much of their own values all other nodes keep {word} "
            f"({attacked:.2f} nats)."
        )
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
    constants = next((one.nodes for one in card.figures if one.name == CONSTANTS), ())
    if constants:
        count, some = len(constants), ", ".join(constants[:NAMED])
        more = ", ..." if count > NAMED else ""
        said.append(f"Nodes that only hold a constant: {count} ({some}{more}).")
    return (*said, *_of_prunings(by_name))


def _of_prunings(by_name: dict[str, Interval]) -> Iterator[str]:
    """What pruning again has found, if it was done."""
    seeds = by_name.get(OTHER_SEEDS)
    if seeds is not None:
        yield f"Of prunings from other seeds, {seeds.value:.0%} reach the target on the test split."
    controls = [
        name.removesuffix(LOSS) for name in by_name if name.startswith(CONTROL) and name.endswith(LOSS)
    ]
    for control in controls:
        times = by_name.get(f"{control}{TIMES}")
        if times is None:
            yield f"No circuit gives arbitrary answers to its prompts ({control})."
        elif times.value >= APART:
            yield f"Arbitrary answers to its prompts ({control}) take {times.value:.0f} times its edges."
        else:
            yield (
                f"Arbitrary answers to its prompts ({control}) take only {times.value:.1f} times its edges, "
                "so that such a circuit says little about the model."
            )
    rounds = [name for name in by_name if name.startswith(BACKUP)]
    if rounds:
        found = [name for name in rounds if name.endswith(EDGES)]
        yield (
            f"Without its q, k, v and neurons the target is reached again, {len(found)} times over: "
            "the model has backups of it."
            if found
            else "Without its q, k, v and neurons no circuit reaches the target."
        )


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
