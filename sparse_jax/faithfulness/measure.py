"""Measures a circuit: every figure of the scorecard, from the probes."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import jax.numpy as jnp
import numpy as np

from sparse_jax.ablation.kinds import ABLATIONS, is_constant, is_drawn
from sparse_jax.ablation.objective import kl_from_full
from sparse_jax.circuits.applied import check_task
from sparse_jax.circuits.graph import Circuit
from sparse_jax.faithfulness.again import ROUNDS, pruned_again, settings_of
from sparse_jax.faithfulness.intervals import answers_interval, mean_interval
from sparse_jax.faithfulness.probes import Probe, inner
from sparse_jax.faithfulness.runs import constants, in_both_runs
from sparse_jax.faithfulness.scorecard import Figure, Scorecard, verdict_of
from sparse_jax.faithfulness.sets import beside_other_sets
from sparse_jax.inputs import InputError, require
from sparse_jax.models.means import text_windows
from sparse_jax.models.model import Model
from sparse_jax.progress import Progress
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.metrics import METRICS
from sparse_jax.tasks.task import Task

# Draws of a random ablation.
DRAWS = 16
# Pairs that random draws, an adversary and both runs are measured on, and those of sets of nodes; everything
# else takes all.
FEW, SET_PAIRS = 32, 16


def measure_circuit(
    model: Model,
    circuit: Circuit,
    task: Task,
    pairs: int = 128,
    seed: int = 0,
    again: bool = False,
    rounds: int = ROUNDS,
) -> Scorecard:
    """The scorecard of a circuit on `pairs` pairs of the task's test split, and of its shifted splits.

    Definitions are those of METHOD 8. What is run many times is run on the first 32 pairs, or the first 16.
    again: also prune again, from other seeds, for a control and up to `rounds` times without the nodes found
    so far (`again.py`), which takes several times as long as finding the circuit did.

    Raises InputError for a circuit of another model or task, fewer than two pairs, rounds without `again`,
    and a circuit of no node, of all nodes or without a target.
    """
    require(again or rounds == ROUNDS, "rounds", rounds, f"{ROUNDS}, or again=True (--all)")
    check_measurable(model, circuit, task, again)
    target = circuit.losses["target"]
    tokenizer, context = model.require_tokenizer(), model.config.context
    text, missing = _text(model, circuit)
    splits = [split for split in task.splits if split in ("test", "shifted", *task.shifts)]
    probes = {
        split: Probe(model, circuit, task.encode(split, pairs, seed, tokenizer, context), text)
        for split in splits
    }
    probe = probes.pop("test")
    few = _first(probe, FEW)
    parts: tuple[Callable[[], Iterator[Figure]], ...] = (
        lambda: _sufficiency(probe, few),
        lambda: _agreement(probe),
        lambda: beside_other_sets(few, _first(few, SET_PAIRS), seed),
        lambda: _interchange(probe),
        lambda: in_both_runs(few),
        lambda: constants(_first(few, SET_PAIRS), float(target), seed),
        lambda: _shift(probes),
    )
    # a generator: checked here, before all work
    repeated = pruned_again(few, task, rounds) if again else None
    figures: list[Figure] = []
    bar = Progress(f"scorecard {task.name}", len(parts), "parts")
    for number, part in enumerate(parts, start=1):
        figures += part()
        bar.update(number)
    bar.close()
    figures += repeated or ()
    about = task.name, model.origin, circuit.fingerprint, pairs, float(target)
    card = Scorecard(*about, tuple(figures), ())
    return dataclasses.replace(card, verdict=(*verdict_of(card), *missing))


def check_measurable(model: Model, circuit: Circuit, task: Task, again: bool = False) -> None:
    """Raises InputError for a circuit that `measure_circuit` refuses."""
    check_task(model, circuit, task)
    require(len(circuit.nodes) > 0, "circuit", "no nodes", "a circuit of at least one node")
    closed = any((np.asarray(gate) == 0).any() for gate in circuit.gates(model.config).values())
    require(closed, "circuit", "all nodes", "a circuit without some of the nodes")
    if circuit.losses.get("target") is None:
        raise InputError("circuit: it has no target loss; valid: a circuit found by sparse_jax")
    if again:
        settings_of(circuit)


def _text(model: Model, circuit: Circuit) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Windows of the model's training text, or None and a sentence that says why they are missing."""
    try:
        return text_windows(model), ()
    except InputError as error:
        return None, (f"Ablation from training text was not measured ({error}).",)


def _sufficiency(probe: Probe, few: Probe) -> Iterator[Figure]:
    full = mean_interval(METRICS["loss"](probe.full_logits, probe.pairs.candidates))
    yield Figure("loss of the full model", full, "nats")
    for kind in ABLATIONS:
        if kind == "resample_text" and probe.text is None:
            continue
        draws = DRAWS if is_drawn(kind) else 1
        losses = (probe if is_constant(kind) else few).circuit_losses(kind, draws)
        yield Figure("loss of the circuit", mean_interval(losses.mean(axis=0)), "nats", kind)
        if draws > 1:
            worst = mean_interval(losses.max(axis=0))
            yield Figure(f"loss of the circuit, worst of {draws} draws a pair", worst, "nats", kind)


def _agreement(probe: Probe) -> Iterator[Figure]:
    """How near the circuit's answers and distributions are to the model's, right or wrong."""
    circuit, full = probe.circuit_logits(), probe.full_logits
    full_log = full - np.logaddexp.reduce(full, axis=-1, keepdims=True)
    divergence = mean_interval(np.asarray(kl_from_full(jnp.asarray(circuit), jnp.asarray(full_log))))
    yield Figure("KL from the full model's distribution", divergence, "nats", probe.ablation)
    own, wanted = (_signs(logits, probe.pairs) for logits in (circuit, full))
    yield Figure("same answer as the full model", answers_interval(own == wanted), "share", probe.ablation)
    if not wanted.all():
        same = answers_interval(~own, ~wanted)
        yield Figure("same answer where the full model errs", same, "share", probe.ablation)


def _signs(logits: np.ndarray, pairs: EncodedPairs) -> np.ndarray:
    """Whether each member [P, 2] is answered rightly."""
    two = np.take_along_axis(logits, np.asarray(pairs.candidates), axis=-1)
    return two[..., 0] > two[..., 1]


def _first(probe: Probe, count: int) -> Probe:
    """The same on the first `count` pairs."""
    return dataclasses.replace(probe, pairs=EncodedPairs(*(array[:count] for array in probe.pairs)))


def _interchange(probe: Probe) -> Iterator[Figure]:
    for name, inverted in (("the circuit's", False), ("all other", True)):
        flipped = probe.swapped_margins(inner(probe.nodes, inverted)) < 0
        yield Figure(
            f"answers flipped by swapping {name} q, k, v and neurons",
            answers_interval(flipped),
            "share",
        )


def _shift(probes: Mapping[str, Probe]) -> Iterator[Figure]:
    """Accuracy on each shifted split; a kind of shift that gates were trained on is named so."""
    for split, probe in probes.items():
        trained = split in probe.circuit.provenance.get("pruning", {}).get("shifts", ())
        for name, logits, how, known in (
            ("full model", probe.full_logits, "", ""),
            ("circuit", probe.circuit_logits(), probe.ablation, " (trained on)" if trained else ""),
        ):
            accuracy = answers_interval(_signs(logits, probe.pairs))
            yield Figure(f"accuracy of the {name}, {split} split{known}", accuracy, "share", how)
