"""A circuit as a Python program, without the numbers that its answers do not need."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from sparse_jax.circuits.compact_circuit import CompactCircuit
from sparse_jax.circuits.gates import Gates
from sparse_jax.circuits.graph import Circuit
from sparse_jax.circuits.listing import (
    Head,
    Listing,
    Logit,
    Step,
    Sum,
    Table,
    fewer_entries,
    fewer_knots,
    listing_of,
)
from sparse_jax.circuits.source_text import load, token_texts, written
from sparse_jax.inputs import InputError
from sparse_jax.models.model import Model
from sparse_jax.progress import Progress
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.find import find_task
from sparse_jax.tasks.task import Task

# Pairs, if the circuit does not say on how many it was tested.
_PAIRS = 256


def test_pairs(model: Model, circuit: Circuit, task: str | Task | None) -> EncodedPairs:
    """The test split of a circuit's task, as many pairs as it was tested on.

    Raises InputError for a task that is not known, or whose answers are not those of the circuit.
    """
    own = str(circuit.provenance.get("task"))
    try:
        chosen = task if isinstance(task, Task) else find_task(task or own)
    except InputError as error:
        if task is not None:
            raise
        raise InputError(f"task: None, and the circuit's own is not known here ({error})") from None
    count = circuit.provenance.get("pruning", {}).get("test_pairs", _PAIRS)
    pairs = chosen.encode("test", count, 0, model.require_tokenizer(), model.config.context)
    known = circuit.provenance.get("answers")
    if known is not None and not set(pairs.candidates.reshape(-1).tolist()) <= set(known):
        raise InputError(f"task: {chosen.name}, with other answers than the circuit's; valid: {own}")
    return pairs


def code_of(model: Model, circuit: Circuit, values: Gates, small: CompactCircuit, pairs: EncodedPairs) -> str:
    """The program of `small`, which was folded from `circuit`; see `Circuit.code`."""
    listing = listing_of(model, circuit, values, small, pairs)
    texts = token_texts(model.require_tokenizer(), model.config.vocab_size)
    check = _Check(small, pairs, texts)
    program, right = simplest(listing, check)
    about = circuit.provenance
    heading = (
        f"{about.get('task', 'a task')} in {about.get('model', 'a model')} ({model.fingerprint}): "
        f"{len(circuit.nodes)} nodes, {len(circuit.edges)} edges.\n\n"
        f"Written by sparse_jax from the circuit, whose answers it gives to {right} of {len(check.prompts)} "
        "test prompts.\nlogits(tokens) takes the texts of a prompt's tokens; higher is likelier.\n"
    )
    return f'"""{heading}"""\n\n{program}'


def simplest(listing: Listing, check: "_Check") -> tuple[str, int]:
    """The program with the fewest numbers and digits that gives as many answers as the whole listing does.

    Also returns how many answers are the circuit's.
    """
    most, right = _DIGITS[-1], check.agreeing(written(listing, _DIGITS[-1], check.texts))
    progress = Progress("writing the circuit as code", len(listing.steps), "steps")

    def tried(simpler: Listing, digits: int = most) -> bool:
        return check.agreeing(written(simpler, digits, check.texts), right) >= right

    for number in range(len(listing.steps)):
        for simpler in _SIMPLER:
            for fields in simpler(listing.steps[number]):
                changed = replaced(listing, number, **fields)
                if tried(changed):
                    listing = changed
                    break
        listing = _without_some_entries(listing, number, tried)
        progress.update(number + 1)
    progress.close()
    for simpler_logits in _SIMPLER_LOGITS:
        for logits in simpler_logits(listing.logits):
            changed = dataclasses.replace(listing, logits=logits)
            if tried(changed):
                listing = changed
                break
    digits = next(digits for digits in _DIGITS if tried(listing, digits))
    program = written(listing, digits, check.texts)
    return program, check.agreeing(program)


def _without_some_entries(listing: Listing, number: int, tried: Callable[[Listing], bool]) -> Listing:
    """Removes entries of a step's table in groups, from halves down to eighths, smallest first."""
    for parts in (2, 4, 8):
        table = table_of(listing.steps[number])
        if table is None or not table.others:
            break
        others = dict(table.others)
        order = sorted(others, key=lambda token: abs(table.others[token]))
        for group in np.array_split(np.array(order), min(parts, len(order))):
            left = {token: x for token, x in others.items() if token not in group}
            changed = replaced(listing, number, table=Table(table.usual, left))
            if tried(changed):
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


# Fields of a step.
Changes = dict[str, Any]
_DIGITS = (1, 2, 3, 4, 6)
# Entries of tables that are left out, as shares of the table's largest.
_LEAST = (1.0, 0.7, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.02)
_KNOTS = (2, 3, 4, 6, 9, 14)


def _without_threshold(step: Step) -> Iterator[Changes]:
    if isinstance(step, Sum) and step.threshold:
        yield {"threshold": 0.0}


def _without_positions(step: Step) -> Iterator[Changes]:
    """The constant instead of a line, or lines with few knots."""
    if isinstance(step, Sum) and step.by_position:
        yield {"by_position": ()}
        for count in _KNOTS:
            yield {"by_position": fewer_knots(step.by_position, count)}


def _with_mean_rows(step: Step) -> Iterator[Changes]:
    """Constants instead of what is constant but weighted by attention."""
    if isinstance(step, Sum) and any(name in dict(step.means) for name, _ in step.terms):
        means = dict(step.means)
        terms = tuple(term for term in step.terms if term[0] not in means)
        added = sum(value * means[name] for name, value in step.terms if name in means)
        line = tuple((at, value + added) for at, value in step.by_position)
        yield {"terms": terms, "constant": step.constant + added, "by_position": line}


def _with_fewer_entries(step: Step) -> Iterator[Changes]:
    table = table_of(step)
    if table is not None and table.others:
        for least in _LEAST:
            yield {"table": fewer_entries(table, least)}


_SIMPLER = (_without_threshold, _with_mean_rows, _without_positions, _with_fewer_entries)


Logits = tuple[Logit, ...]


def _logits_without_positions(logits: Logits) -> Iterator[Logits]:
    if any(logit.by_position for logit in logits):
        yield tuple(dataclasses.replace(logit, by_position=()) for logit in logits)
        for count in _KNOTS:
            lines = [fewer_knots(logit.by_position, count) for logit in logits]
            yield tuple(dataclasses.replace(one, by_position=line) for one, line in zip(logits, lines))


def _logits_with_fewer_entries(logits: Logits) -> Iterator[Logits]:
    for least in _LEAST:
        yield tuple(dataclasses.replace(logit, table=fewer_entries(logit.table, least)) for logit in logits)


_SIMPLER_LOGITS = (_logits_without_positions, _logits_with_fewer_entries)


class _Check:
    """Prompts as texts of tokens, and the circuit's answers; those that are decided least come first."""

    def __init__(self, small: CompactCircuit, pairs: EncodedPairs, texts: Sequence[str]) -> None:
        self.texts = texts
        tokens, last = pairs.tokens.reshape(-1, pairs.tokens.shape[-1]), pairs.last.reshape(-1)
        logits = np.asarray(small.forward(tokens, last))
        columns = np.array(small.outputs)
        two_Nx2 = pairs.candidates.reshape(-1, 2)
        of_two = np.take_along_axis(logits, np.argmax(two_Nx2[..., None] == columns, axis=-1), axis=1)
        order = np.argsort(np.abs(of_two[:, 0] - of_two[:, 1]))
        self.prompts = [[texts[token] for token in tokens[i, : last[i] + 1]] for i in order]
        self.answers = [tuple(texts[t] for t in two_Nx2[i][np.argsort(-of_two[i])]) for i in order]

    def agreeing(self, program: str, needed: int = 0) -> int:
        """How many answers of the program are the circuit's; may stop when fewer than `needed` can be."""
        logits, missed = load(program), 0
        for prompt, (answer, other) in zip(self.prompts, self.answers):
            found = logits(prompt)
            missed += not found[answer] > found[other]
            if missed > len(self.prompts) - needed:
                break
        return len(self.prompts) - missed
