"""How much of a true circuit a method finds: precision, recall and F1 of a set, AUROC of a ranking."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from sparse_jax.circuits.edges import kept_weights
from sparse_jax.circuits.gates import Gates
from sparse_jax.circuits.graph import Circuit
from sparse_jax.faithfulness.planted import Program
from sparse_jax.inputs import InputError, require
from sparse_jax.model import sites
from sparse_jax.trees import Array, Arrays


class Overlap(NamedTuple):
    """How a set agrees with the true one; each is 0 where it would be 0 / 0."""

    precision: float
    recall: float
    f1: float


def overlap(found: Array, truth: Array) -> Overlap:
    """The agreement of two sets, given as 0/1 arrays of one shape.

    Raises InputError for different shapes, and for a truth that is empty.

    >>> overlap(np.array([1, 1, 0, 0]), np.array([1, 0, 1, 1]))
    Overlap(precision=0.5, recall=0.3333333333333333, f1=0.4)
    """
    found, truth = np.asarray(found) > 0, np.asarray(truth) > 0
    require(found.shape == truth.shape, "found", found.shape, f"the shape of the truth, {truth.shape}")
    require(bool(truth.any()), "truth", "empty", "at least one entry that is true")
    hits = int((found & truth).sum())
    of_found = hits / found.sum() if found.any() else 0.0
    return Overlap(float(of_found), hits / int(truth.sum()), 2 * hits / int(found.sum() + truth.sum()))


def auroc(scores: Array, truth: Array) -> float:
    """The probability that a true entry scores above a false one; a tie counts half (Mann-Whitney).

    scores and truth (0/1) have one shape. Raises InputError for different shapes, scores that are NaN, and a
    truth without entries of both kinds.

    >>> auroc(np.array([3.0, 2.0, 2.0, 1.0]), np.array([1, 1, 0, 0]))
    0.875
    """
    scores, truth = np.asarray(scores, np.float64).ravel(), np.asarray(truth).ravel() > 0
    require(scores.shape == truth.shape, "scores", scores.shape, f"the shape of the truth, {truth.shape}")
    require(not np.isnan(scores).any(), "scores", "NaN", "numbers")
    positive, negative = int(truth.sum()), int((~truth).sum())
    require(positive > 0 and negative > 0, "truth", f"{positive} true, {negative} false", "some of each")
    # ranks from 1, the mean rank for ties
    above = stats.rankdata(scores)[truth].sum() - positive * (positive + 1) / 2
    return float(above / (positive * negative))


def circuit_overlap(program: Program, found: Circuit | Gates) -> tuple[Overlap, Overlap]:
    """The agreement of a circuit, or of its 0/1 gates, with the program's: of nodes, and of edges.

    Raises InputError for a circuit that does not fit the program's model, and for gates that lack a site.
    """
    gates = found.gates(program.model.config) if isinstance(found, Circuit) else found
    _require_all(gates, sites.LAYER_SITES, "found")
    kept = {
        sites.edge_key(source, target): mask
        for source, target, mask in kept_weights(program.model.params, gates)
    }
    masks = program.masks()
    return (
        overlap(_joined(gates, sites.LAYER_SITES), _joined(masks, sites.LAYER_SITES)),
        overlap(_joined(kept, tuple(kept)), _joined(masks, tuple(kept))),
    )


def ranking_auroc(program: Program, scores: Arrays) -> float | None:
    """The AUROC of scores of all nodes (by site) or of all edges (by source and target) of the model.

    Edges are the nonzero weights only. None where all of them belong to the circuit. Raises InputError for
    scores that lack a site.
    """
    masks = program.masks()
    if not any(map(sites.is_edge, scores)):
        _require_all(scores, sites.LAYER_SITES, "scores")
        return auroc(_joined(scores, sites.LAYER_SITES), _joined(masks, sites.LAYER_SITES))
    weights = {}
    for source, target, sublayer, matrix in sites.EDGE_MATRICES:
        kernel = program.model.params["layers"][sublayer][matrix]["kernel"]
        weights[sites.edge_key(source, target)] = np.asarray(kernel) != 0
    names = tuple(weights)
    _require_all(scores, names, "scores")
    there = _joined(weights, names)
    truth = _joined(masks, names)[there]
    return None if truth.all() else auroc(_joined(scores, names)[there], truth)


def _joined(arrays: Arrays, names: tuple[str, ...]) -> np.ndarray:
    return np.concatenate([np.asarray(arrays[name]).ravel() for name in names])


def _require_all(arrays: Arrays, names: tuple[str, ...], field: str) -> None:
    missing = [name for name in names if name not in arrays]
    if missing:
        raise InputError(f"{field}: {missing[0]!r} is missing; valid: {', '.join(names)}")
