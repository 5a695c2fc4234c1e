"""A circuit as a Python program, without the numbers that its answers do not need."""

import dataclasses
import itertools
import json
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from sparse_jax.circuits.compact_circuit import CompactCircuit
from sparse_jax.circuits.gates import Gates
from sparse_jax.circuits.graph import Circuit
from sparse_jax.circuits.listing import (
    Head,
    Listing,
    Scale,
    Step,
    Sum,
    Table,
    fewer_entries,
    fewer_knots,
    listing_of,
)
from sparse_jax.circuits.source_check import Check
from sparse_jax.circuits.source_text import WIDTH, token_texts, written
from sparse_jax.inputs import require
from sparse_jax.models.model import Model
from sparse_jax.phrases import counted
from sparse_jax.progress import Progress
from sparse_jax.tasks.encode import EncodedPairs


def code_of(
    model: Model,
    circuit: Circuit,
    values: Gates,
    small: CompactCircuit,
    pairs: EncodedPairs,
    tolerance: float = 0.0,
) -> str:
    """The program of `small`, which was folded from `circuit`; see `Circuit.code`."""
    require(not small.frozen_norms, "circuit", "frozen norms", "a circuit with norms of its own")
    listing = listing_of(model, circuit, values, small, pairs)
    texts = token_texts(model.require_tokenizer(), model.config.vocab_size)
    check = Check(small, pairs, texts)
    require(0 <= tolerance < 1, "tolerance", tolerance, "a share of the answers, from 0 to below 1")
    program = simplest(listing, check, tolerance)
    verdict = check.verdict(program)
    assert verdict is not None  # no bound was given
    about = circuit.provenance
    edges = counted(len(circuit.edges), "edge")
    title = (
        f"{about.get('task', 'a task')} in {about.get('model', 'a model')} ({model.fingerprint}): "
        f"{counted(len(circuit.nodes), 'node')}, {edges}."
    )
    text = (
        f"Written by sparse_jax from the circuit. On {len(check.prompts)} test prompts it gives "
        f"{verdict.answers} of the circuit's answers, with a task loss of {verdict.loss:.3f} nats instead of "
        f"{check.loss:.3f}. logits(tokens) takes the texts of a prompt's tokens; higher is likelier."
    )
    heading = json.dumps(title)[1:-1] + "\n\n" + textwrap.fill(text, WIDTH)
    return f'"""{heading}\n"""\n\n{program}'


def simplest(listing: Listing, check: Check, tolerance: float = 0.0) -> str:
    """The program with the fewest numbers and digits that does as well as the whole listing.

    It gives as many of the circuit's answers, less a share of `tolerance`, and its loss is at most MORE_LOSS
    above the circuit's. What takes most room, and what says least about the circuit, is left out first.
    """
    most = _DIGITS[-1]
    whole = check.verdict(written(listing, most, check.texts))
    assert whole is not None  # no bound was given
    answers = min(whole.answers, math.ceil((1 - tolerance) * len(check.prompts)))
    limits = answers, max(whole.loss, check.loss) + MORE_LOSS

    def does(tried: Listing, digits: int = most) -> bool:
        return check.verdict(written(tried, digits, check.texts), *limits) is not None

    count = len(listing.steps)
    progress = Progress("writing the circuit as code", count * len(_SIMPLER), "steps")
    for turn, simpler in enumerate(_SIMPLER):
        for number in range(count):
            listing = next(filter(does, simpler(listing, number)), listing)
            progress.update(turn * count + number + 1)
        simpler_logits = _SIMPLER_LOGITS.get(simpler)
        if simpler_logits is not None:
            listing = next(filter(does, simpler_logits(listing)), listing)
    for number, parts in itertools.product(range(count), (2, 4, 8)):
        listing = _without_groups(listing, number, parts, does)
    progress.close()
    digits = next(digits for digits in _DIGITS if does(listing, digits))
    return written(listing, digits, check.texts)


def _without_groups(listing: Listing, number: int, parts: int, does: Callable[[Listing], bool]) -> Listing:
    """Leaves out entries of a step's table in so many groups, as far as it does; smallest first."""
    table = table_of(listing.steps[number])
    if table is None or not table.others:
        return listing
    others = dict(table.others)
    order = sorted(others, key=lambda token: abs(others[token]))
    for group in np.array_split(np.array(order), min(parts, len(order))):
        left = {token: x for token, x in others.items() if token not in group}
        changed = replaced(listing, number, table=Table(table.usual, left))
        if does(changed):
            listing, others = changed, left
    return listing


def table_of(step: Step) -> Table | None:
    """What a step reads for each token, if it does."""
    return None if isinstance(step, Head) else step.table


def replaced(listing: Listing, number: int, **fields: Any) -> Listing:
    """The listing with other fields of one step."""
    steps = list(listing.steps)
    steps[number] = dataclasses.replace(steps[number], **fields)
    return dataclasses.replace(listing, steps=tuple(steps))


# Nats by which leaving numbers out may raise the loss.
MORE_LOSS = 0.02
_DIGITS = (1, 2, 3, 4, 6)
# Entries of tables that are left out, as shares of the table's largest.
_LEAST = (1.0, 0.7, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.02)
_KNOTS = (2, 3, 4, 6, 9, 14, 22, 35)


def _without_scale(listing: Listing, number: int) -> Iterator[Listing]:
    step = listing.steps[number]
    if isinstance(step, Scale) and step.table.others:
        yield replaced(listing, number, table=Table(1.0, {}))


def _with_mean_rows(listing: Listing, number: int) -> Iterator[Listing]:
    """Constants instead of what is constant but weighted by attention."""
    step = listing.steps[number]
    if isinstance(step, Sum) and any(name in dict(step.means) for name, _ in step.terms):
        means = dict(step.means)
        terms = tuple(term for term in step.terms if term[0] not in means)
        added = sum(value * means[name] for name, value in step.terms if name in means)
        line = tuple((at, value + added) for at, value in step.by_position)
        yield replaced(listing, number, terms=terms, constant=step.constant + added, by_position=line)


def _without_positions(listing: Listing, number: int) -> Iterator[Listing]:
    """The constant instead of a line, or lines with few knots."""
    step = listing.steps[number]
    if isinstance(step, Sum) and step.by_position:
        yield replaced(listing, number, by_position=())
        for count in _KNOTS:
            yield replaced(listing, number, by_position=fewer_knots(step.by_position, count))


def _logits_without_positions(listing: Listing) -> Iterator[Listing]:
    for count in (0, *_KNOTS):
        lines = [fewer_knots(logit.by_position, count) if count else () for logit in listing.logits]
        yield _with_logits(listing, [{"by_position": line} for line in lines])


def _without_threshold(listing: Listing, number: int) -> Iterator[Listing]:
    step = listing.steps[number]
    if isinstance(step, Sum) and step.threshold:
        yield replaced(listing, number, threshold=0.0)


def _with_fewer_entries(listing: Listing, number: int) -> Iterator[Listing]:
    table = table_of(listing.steps[number])
    if table is not None and table.others:
        for least in _LEAST:
            yield replaced(listing, number, table=fewer_entries(table, least))


def _logits_with_fewer_entries(listing: Listing) -> Iterator[Listing]:
    for least in _LEAST:
        tables = [fewer_entries(logit.table, least) for logit in listing.logits]
        yield _with_logits(listing, [{"table": table} for table in tables])


def _with_logits(listing: Listing, fields: Sequence[dict[str, Any]]) -> Listing:
    logits = tuple(dataclasses.replace(logit, **new) for logit, new in zip(listing.logits, fields))
    return dataclasses.replace(listing, logits=logits)


# positions once more at the end: what they helped to decide may be gone
_SIMPLER = (
    _without_scale,
    _with_mean_rows,
    _without_positions,
    _without_threshold,
    _with_fewer_entries,
    _without_positions,
)
_SIMPLER_LOGITS = {
    _without_positions: _logits_without_positions,
    _with_fewer_entries: _logits_with_fewer_entries,
}
