"""Measures a circuit: every figure of the scorecard, from the probes."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import jax.numpy as jnp
import numpy as np

from sparse_jax.ablation.applied import check_circuit
from sparse_jax.ablation.kinds import ABLATIONS, is_constant, is_drawn
from sparse_jax.ablation.objective import kl_from_full
from sparse_jax.ablation.values import text_windows
from sparse_jax.circuits.graph import Circuit
from sparse_jax.faithfulness.hypotheses import better_than_share, equivalence, holm, independence
from sparse_jax.faithfulness.intervals import Interval, mean_interval, share_interval
from sparse_jax.faithfulness.probes import Probe, Runs, inner, losses_of, matched_sets
from sparse_jax.faithfulness.scorecard import Figure, Scorecard, verdict_of
from sparse_jax.inputs import InputError, require
from sparse_jax.models.model import Model
from sparse_jax.progress import Progress
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.metrics import METRICS
from sparse_jax.tasks.task import Task

# Draws of a random ablation; sets of random nodes.
DRAWS, SETS = 16, 100
# Pairs that random draws, an adversary and both runs are measured on, and those of sets of nodes; everything
# else takes all.
FEW, SET_PAIRS = 32, 16
# Subsets of the circuit that are ablated in both the circuit and the model; nodes whose removal is tried.
SUBSETS, REMOVED = 16, 64


def measure_circuit(model: Model, circuit: Circuit, task: Task, pairs: int = 128, seed: int = 0) -> Scorecard:
    """The scorecard of a circuit on `pairs` pairs of the task's test split, and of its shifted splits.

    Definitions are those of METHOD 8. What is run many times is run on the first 32 pairs, or the first 16.
    Raises InputError for a circuit of another model, or of another task by the name in its provenance, fewer
    than two pairs, and a circuit of no node, of all nodes or without a target.
    """
    check_circuit(model, circuit)
    found_for = circuit.provenance.get("task")
    require(
        found_for in (None, task.name), "task", task.name, f"{found_for!r}, which the circuit was found for"
    )
    require(len(circuit.nodes) > 0, "circuit", "no nodes", "a circuit of at least one node")
    closed = any((np.asarray(gate) == 0).any() for gate in circuit.gates(model.config).values())
    require(closed, "circuit", "all nodes", "a circuit without some of the nodes")
    target = circuit.losses.get("target")
    if target is None:
        raise InputError("circuit: it has no target loss; valid: a circuit found by sparse_jax")
    tokenizer, context = model.require_tokenizer(), model.config.context
    text, missing = _text(model, circuit)
    splits = [split for split in task.splits if split in ("test", "shifted", *task.shifts)]
    probes = {
        split: Probe(model, circuit, task.encode(split, pairs, seed, tokenizer, context), text)
        for split in splits
    }
    probe = probes.pop("test")
    few = dataclasses.replace(probe, pairs=_first(probe.pairs, FEW))
    parts: tuple[Callable[[], Iterator[Figure]], ...] = (
        lambda: _sufficiency(probe, few),
        lambda: _agreement(probe),
        lambda: _with_sets(few, seed),
        lambda: _interchange(probe),
        lambda: _both_runs(few),
        lambda: _shift(probes),
    )
    figures: list[Figure] = []
    bar = Progress(f"scorecard {task.name}", len(parts), "parts")
    for number, part in enumerate(parts, start=1):
        figures += part()
        bar.update(number)
    bar.close()
    card = Scorecard(task.name, model.origin, pairs, float(target), tuple(figures), ())
    return dataclasses.replace(card, verdict=(*verdict_of(card), *missing))


def _text(model: Model, circuit: Circuit) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Windows of the model's training text, or None and a sentence that says why they are missing."""
    if circuit.edge_gated:
        return None, ("Gates of edges replace weights: only constant ablations were measured.",)
    try:
        return text_windows(model), ()
    except InputError as error:
        return None, (f"Ablation from training text was not measured ({error}).",)


def _sufficiency(probe: Probe, few: Probe) -> Iterator[Figure]:
    full = mean_interval(METRICS["loss"](probe.full_logits, probe.pairs.candidates))
    yield Figure("loss of the full model", full, "nats")
    for kind in ABLATIONS:
        if probe.circuit.edge_gated and not is_constant(kind):
            continue  # gates of edges replace weights, and know constants only
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
    yield Figure(
        "same answer as the full model", mean_interval((own == wanted).mean(axis=1)), "share", probe.ablation
    )
    errs = ~wanted
    if errs.any():
        same = share_interval(int((~own & errs).sum()), int(errs.sum()))
        yield Figure("same answer where the full model errs", same, "share", probe.ablation)


def _signs(logits: np.ndarray, pairs: EncodedPairs) -> np.ndarray:
    """Whether each member [P, 2] is answered rightly."""
    two = np.take_along_axis(logits, np.asarray(pairs.candidates), axis=-1)
    return two[..., 0] > two[..., 1]


def _with_sets(probe: Probe, seed: int) -> Iterator[Figure]:
    """Everything that compares the circuit with other sets of nodes, and the tests of Shi et al."""
    rng, kept, how = np.random.default_rng(seed), probe.nodes, probe.ablation
    gates = {site: np.asarray(gate, np.float32) for site, gate in kept.items()}
    four = {site: np.stack([0 * gate, 0 * gate + 1, gate, 1 - gate]) for site, gate in gates.items()}
    empty, full, circuit, without = probe.margins(four)
    span = float(full.mean() - empty.mean())
    shares = (circuit.mean(axis=1) - empty.mean()) / span if abs(span) > 1e-6 else np.full(len(full), np.nan)
    yield Figure("faithfulness of the logit difference", mean_interval(shares), "ratio", how)
    yield Figure("loss with the circuit ablated", mean_interval(losses_of(without)), "nats", how)
    few = dataclasses.replace(probe, pairs=_first(probe.pairs, SET_PAIRS))
    own_loss, harm = (losses_of(margins[:SET_PAIRS]).mean() for margins in (circuit, without))
    random_sets = matched_sets(kept, SETS, seed)
    random_harm = losses_of(few.margins_without(random_sets)).mean(axis=1)
    random_loss = losses_of(few.margins(random_sets)).mean(axis=1)
    milder, worse = int((random_harm < harm).sum()), int((random_loss > own_loss).sum())
    yield Figure(f"loss with random nodes ablated, {SETS} sets", mean_interval(random_harm), "nats", how)
    yield Figure("random sets that do less harm", share_interval(milder, SETS), "share", how)
    yield Figure("random circuits that are worse", share_interval(worse, SETS), "share", how)
    effects, added = _removals(few, kept, own_loss, rng)
    larger = int((effects > np.quantile(added, 0.9)).sum())
    needed = share_interval(larger, len(effects))
    yield Figure("nodes that matter more than 9 in 10 added at random", needed, "share", how)
    yield _incompleteness(few, kept, rng)
    tests = {
        "not equivalent to the model": equivalence(full.mean(axis=1), circuit.mean(axis=1)),
        "the rest still knows what the model knows": independence(full.mean(axis=1), without.mean(axis=1)),
        "better than 9 in 10 random circuits": better_than_share(worse, SETS),
        "ablated, worse than 9 in 10 random sets": better_than_share(milder, SETS),
        "no node that a random one could replace": better_than_share(larger, len(effects)),
    }
    for name, p in holm(tests).items():
        yield Figure(f"test: {name}", Interval(p, p, p), "p-value", how)


def _first(pairs: EncodedPairs, count: int) -> EncodedPairs:
    return EncodedPairs(*(array[:count] for array in pairs))


def _removals(probe: Probe, kept: Mapping, loss: float, rng) -> tuple[np.ndarray, np.ndarray]:
    """How much the loss changes without each node (REMOVED at most), and without one added at random."""
    places = [(site, *place) for site, gate in kept.items() for place in np.argwhere(np.asarray(gate) > 0)]
    others = [(site, *place) for site, gate in kept.items() for place in np.argwhere(np.asarray(gate) == 0)]
    removed = [places[i] for i in rng.permutation(len(places))[:REMOVED]]
    added = [others[i] for i in rng.permutation(len(others))[:SETS]]
    sets = {
        site: np.repeat(np.asarray(gate, np.float32)[None], len(removed) + len(added), axis=0)
        for site, gate in kept.items()
    }
    for row, (site, *place) in enumerate([*removed, *added]):
        sets[site][(row, *place)] = 1 - sets[site][(row, *place)]
    losses = losses_of(probe.margins(sets)).mean(axis=1)
    changes = np.abs(losses - loss)
    return changes[: len(removed)], changes[len(removed) :]


def _incompleteness(probe: Probe, kept: Mapping, rng) -> Figure:
    """The largest difference between circuit and model that ablating a part of the circuit in both makes."""
    parts = [
        {site: np.asarray(gate) * (rng.random(np.shape(gate)) < 0.5) for site, gate in kept.items()}
        for _ in range(SUBSETS)
    ]
    for chosen in kept:
        if np.any(kept[chosen]):
            parts.append({site: np.asarray(gate) * (site == chosen) for site, gate in kept.items()})
    masks = {site: np.stack([part[site] for part in parts]) for site in kept}
    circuit = probe.margins({site: np.asarray(kept[site])[None] - mask for site, mask in masks.items()})
    model = probe.margins_without(masks)
    differences = (circuit - model).mean(axis=-1)  # [K, P]
    most = int(np.argmax(np.abs(differences.mean(axis=1))))
    interval = mean_interval(np.sign(differences[most].mean()) * differences[most])
    return Figure(f"incompleteness, largest of {len(parts)} parts", interval, "logits", probe.ablation)


def _interchange(probe: Probe) -> Iterator[Figure]:
    for name, inverted in (("the circuit's", False), ("all other", True)):
        flipped = probe.swapped_margins(inner(probe.nodes, inverted)) < 0
        yield Figure(
            f"answers flipped by swapping {name} q, k, v and neurons",
            mean_interval(flipped.mean(axis=1)),
            "share",
        )


def _both_runs(probe: Probe) -> Iterator[Figure]:
    """What the pruned run and the full run have in common: roles of nodes, their exchange, attention."""
    runs, how = probe.runs(), probe.ablation
    found = list(_correlations(probe, runs))
    if found:
        low, middle, high = np.quantile(found, [0.25, 0.5, 0.75])
        # the quartiles over nodes stand where other figures have an interval
        roles = Interval(float(middle), float(low), float(high))
        yield Figure(
            "kept nodes, in the circuit against in the model (median, quartiles)", roles, "correlation", how
        )
    for name, run, own in (
        ("the model with kept nodes as in the circuit", "into full", "full"),
        ("the circuit with kept nodes as in the model", "into pruned", "pruned"),
    ):
        wanted = runs.margins[own]
        spread = max(float(np.mean((wanted - wanted.mean()) ** 2)), 1e-12)
        unexplained = ((runs.margins[run] - wanted) ** 2 / spread).reshape(-1, 2).mean(axis=1)
        yield Figure(f"unexplained variance of {name}", mean_interval(unexplained), "ratio", how)
    yield from _attention(probe, runs)


def _correlations(probe: Probe, runs: Runs) -> Iterator[float]:
    """Of every kept node's value at the last token, over prompts; what the first layer reads is left out."""
    for site in runs.values["full"]:
        for layer, index in np.argwhere(probe.nodes[site] > 0):
            if site == "attn_in" and layer == 0:
                continue  # the embedding, the same in both
            a, b = (runs.values[name][site][layer, :, index] for name in ("full", "pruned"))
            if a.std() > 1e-6 and b.std() > 1e-6:
                yield float(np.corrcoef(a, b)[0, 1])


def _attention(probe: Probe, runs: Runs) -> Iterator[Figure]:
    """Of heads with a kept value: how far attention from the last token moves, and how even it is."""
    config = probe.model.config
    if "v" not in probe.nodes:
        return
    is_kept_LxH = probe.nodes["v"].reshape(config.n_layers, config.n_heads, -1).any(axis=-1)
    if not is_kept_LxH.any():
        return
    full, pruned = (np.moveaxis(runs.patterns[name], 2, 1)[is_kept_LxH] for name in ("full", "pruned"))
    moved = (np.abs(full - pruned).sum(axis=-1) + np.abs(full.sum(axis=-1) - pruned.sum(axis=-1))) / 2
    by_pair = moved.mean(axis=0).reshape(-1, 2).mean(axis=1)
    yield Figure(
        "attention moved between model and circuit", mean_interval(by_pair), "total variation", probe.ablation
    )
    seen = np.ravel(probe.pairs.last) + 1.0
    for name, pattern in (("model", full), ("circuit", pruned)):
        weights = pattern / np.maximum(pattern.sum(axis=-1, keepdims=True), 1e-12)
        entropy = -(weights * np.log(np.maximum(weights, 1e-12))).sum(axis=-1) / np.log(np.maximum(seen, 2.0))
        by_pair = entropy.mean(axis=0).reshape(-1, 2).mean(axis=1)
        yield Figure(
            f"evenness of attention in the {name}", mean_interval(by_pair), "entropy / log n", probe.ablation
        )


def _shift(probes: Mapping[str, Probe]) -> Iterator[Figure]:
    """Accuracy on each shifted split; a kind of shift that gates were trained on is named so."""
    for split, probe in probes.items():
        trained = split in probe.circuit.provenance.get("pruning", {}).get("shifts", ())
        for name, logits, how, known in (
            ("full model", probe.full_logits, "", ""),
            ("circuit", probe.circuit_logits(), probe.ablation, " (trained on)" if trained else ""),
        ):
            accuracy = mean_interval(METRICS["accuracy"](logits, probe.pairs.candidates))
            yield Figure(f"accuracy of the {name}, {split} split{known}", accuracy, "share", how)
