"""The pruned run beside the full run: do kept nodes and heads do the same, and which hold only a constant?"""

import functools
from collections.abc import Iterator

import numpy as np

from sparse_jax.faithfulness.intervals import mean_interval, share_interval, statistic_interval
from sparse_jax.faithfulness.probes import Probe, Runs, losses_of, places_of
from sparse_jax.faithfulness.scorecard import CONSTANTS, QUARTILES, ROLES, Figure
from sparse_jax.faithfulness.sets import REMOVED
from sparse_jax.model import sites

# Draws of pairs for the intervals of correlations, of which there is one a node.
ROLE_SAMPLES = 1000


def in_both_runs(probe: Probe) -> Iterator[Figure]:
    """What the pruned run and the full run have in common: roles of nodes, their exchange, attention."""
    runs, how = probe.runs(), probe.ablation
    yield from _roles(probe, runs)
    for name, run, own in (
        ("the model with kept nodes as in the circuit", "into full", "full"),
        ("the circuit with kept nodes as in the model", "into pruned", "pruned"),
    ):
        wanted = runs.margins[own]
        spread = max(float(np.mean((wanted - wanted.mean()) ** 2)), 1e-12)
        unexplained = ((runs.margins[run] - wanted) ** 2 / spread).reshape(-1, 2).mean(axis=1)
        yield Figure(f"unexplained variance of {name}", mean_interval(unexplained), "ratio", how)
    yield from _attention(probe, runs)


def _roles(probe: Probe, runs: Runs) -> Iterator[Figure]:
    """Of every kept node's value at the last token, the correlation over prompts of the two runs: quartiles.

    Their intervals are about the pairs that might have been drawn; the nodes are all that there are.
    """
    kept = np.array(list(_both_values(probe, runs)))  # [N, 2, B]
    if not len(kept):
        return
    kept = (kept - kept.mean(axis=-1, keepdims=True)) / kept.std(axis=-1, keepdims=True)
    x, y = np.moveaxis(kept, 1, 0)
    moments_5xNxP = np.stack([x, y, x * x, y * y, x * y]).reshape(5, len(kept), -1, 2).mean(axis=-1)
    moments_Px5N = np.moveaxis(moments_5xNxP, -1, 0).reshape(moments_5xNxP.shape[-1], -1)
    for name, share in QUARTILES.items():
        statistic = functools.partial(_correlation_quantile, share)
        interval = statistic_interval(moments_Px5N, statistic, ROLE_SAMPLES)
        yield Figure(f"{ROLES}: {name}", interval, "correlation", probe.ablation)


def _both_values(probe: Probe, runs: Runs) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every kept node's values [B] in the full and the pruned run, without those that do not vary."""
    for site in runs.values["full"]:
        for layer, index in np.argwhere(probe.nodes[site] > 0):
            if site == "attn_in" and layer == 0:
                continue  # the embedding, the same in both
            a, b = (runs.values[name][site][layer, :, index] for name in ("full", "pruned"))
            if a.std() > 1e-6 and b.std() > 1e-6:
                yield a.astype(np.float64), b.astype(np.float64)


def _correlation_quantile(share: float, means: np.ndarray) -> np.ndarray:
    """A quantile over N nodes of their correlations [...], from means [..., 5 N] of x, y, xx, yy and xy.

    In a draw of pairs where one does not vary, its correlation is 0.
    """
    x, y, xx, yy, xy = np.moveaxis(means.reshape(*means.shape[:-1], 5, -1), -2, 0)
    spread = (xx - x * x) * (yy - y * y)
    correlation = np.where(spread > 1e-12, (xy - x * y) / np.sqrt(np.maximum(spread, 1e-12)), 0)
    return np.quantile(correlation, share, axis=-1)


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


def constants(probe: Probe, target: float, seed: int) -> Iterator[Figure]:
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
    if not tried:
        return
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
    yield Figure(CONSTANTS, share, "share", probe.ablation, tuple(names))
