"""The pruned run beside the full run: do kept nodes and heads do the same, and which hold only a constant?"""

from collections.abc import Iterator

import numpy as np

from sparse_jax.faithfulness.intervals import Interval, mean_interval, share_interval
from sparse_jax.faithfulness.probes import Probe, Runs, losses_of, places_of
from sparse_jax.faithfulness.scorecard import CONSTANTS, Figure
from sparse_jax.faithfulness.sets import REMOVED
from sparse_jax.model import sites


def in_both_runs(probe: Probe) -> Iterator[Figure]:
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


def constants(probe: Probe, target: float, seed: int) -> Figure:
    """Kept nodes that only hold another constant than the mean: their share, and which they are.

    They are those that can carry their mean over the task's prompts instead (over all tokens, or the last
    ones), all of them together, with a loss within the target, or within the circuit's own if that is larger.
    Nodes outside the layers do not count. Each is first tried alone; the least harmful ones are put together.
    Of more than REMOVED nodes, that many are tried.
    """
    rng = np.random.default_rng(seed)
    kept = {site: gate for site, gate in probe.nodes.items() if sites.in_layers(site)}
    places = places_of(kept)
    tried = [places[i] for i in rng.permutation(len(places))[:REMOVED]]
    one_each = {site: np.zeros((len(tried) + 1, *np.shape(gate)), bool) for site, gate in kept.items()}
    for row, (site, *place) in enumerate(tried, start=1):
        one_each[site][(row, *place)] = True
    (own, *every), (_, *ends) = (
        losses_of(probe.constant_margins(one_each, values)).mean(axis=1) for values in probe.own_averages
    )
    is_end = np.less(ends, every)
    held = {site: value.copy() for site, value in probe.own_averages[0].items()}
    for site, *place in (tried[i] for i in np.flatnonzero(is_end)):
        held[site][tuple(place)] = probe.own_averages[1][site][tuple(place)]
    order = np.argsort(np.minimum(every, ends), kind="stable")
    together = {site: np.cumsum(mask[1:][order], axis=0) > 0 for site, mask in one_each.items()}
    losses = losses_of(probe.constant_margins(together, held)).mean(axis=1)
    passing = np.flatnonzero(losses <= max(target, own))
    count = 1 + int(passing[-1]) if len(passing) else 0
    names = sorted(f"{layer}.{site}.{index}" for site, layer, index in (tried[i] for i in order[:count]))
    share = share_interval(count, len(tried))
    return Figure(CONSTANTS, share, "share", probe.ablation, tuple(names))
