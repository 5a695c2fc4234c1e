"""Whether a task can be solved from anything but the tokens that are meant to decide it.

Two logistic regressions predict which of a pair's two answers is right, from features that should not reveal
it. Their accuracy on held-out pairs should be one half.
"""

import numpy as np

from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.pair import deciding

_NEWTON_STEPS = 6
_RIDGE = 1e-2  # of a squared weight, for every pair; features are scaled to a deviation of 1


def leaks(encoded: EncodedPairs, seed: int = 0) -> dict[str, float]:
    """Held-out accuracy of predicting the answer from "context" and "layout"; half of the pairs are fitted.

    context: how often every token occurs outside of those that decide, which are all between the first and
    the last in which the members differ. By that definition both members of a pair share it, so only
    the first is used: what can be found is a context that reveals which member comes first.
    layout: the length of the prompt and the position after the last deciding token, of both members. (The
    position of the first would reveal how many there are, and members may differ in that too.)
    The label is whether the answer's token has the smaller id of the two.
    """
    label_Px2 = (encoded.candidates[..., 0] < encoded.candidates[..., 1]).astype(np.float64)
    vocabulary = int(encoded.tokens.max()) + 1
    contexts, layouts = [], []
    for row in range(len(encoded.tokens)):
        members = _members(encoded, row)
        spans = deciding(*members)
        contexts.append(_outside(members[0], spans[0], vocabulary))
        layouts.append([(len(member), span.stop) for member, span in zip(members, spans)])
    context_PxV, layout_Px2x2 = np.stack(contexts), np.array(layouts, np.float64)
    fitted = np.random.default_rng(seed).permutation(len(contexts)) < len(contexts) // 2
    sides = (fitted, ~fitted)
    return {
        "context": _accuracy(*((context_PxV[side], label_Px2[side, 0]) for side in sides)),
        "layout": _accuracy(
            *((layout_Px2x2[side].reshape(-1, 2), label_Px2[side].ravel()) for side in sides)
        ),
    }


def _members(encoded: EncodedPairs, row: int) -> list[list[int]]:
    return [encoded.tokens[row, member, : encoded.last[row, member] + 1].tolist() for member in range(2)]


def _outside(tokens: list[int], span: slice, vocabulary: int) -> np.ndarray:
    return np.bincount(tokens[: span.start] + tokens[span.stop :], minlength=vocabulary).astype(np.float64)


def _accuracy(fit: tuple[np.ndarray, np.ndarray], held: tuple[np.ndarray, np.ndarray]) -> float:
    """Fits features [N, F] to labels [N] by Newton's method: accuracy on those held out, a tie a half."""
    mean, scale = fit[0].mean(axis=0), fit[0].std(axis=0)
    scale = np.where(scale > 0, scale, 1)
    fit_NxF, held_NxF = (np.c_[(x - mean) / scale, np.ones(len(x))] for x, _ in (fit, held))
    weights = np.zeros(fit_NxF.shape[1])
    for _ in range(_NEWTON_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(fit_NxF @ weights, -30, 30)))
        gradient = fit_NxF.T @ (chance - fit[1]) + _RIDGE * len(fit_NxF) * weights
        curvature = (fit_NxF.T * (chance * (1 - chance))) @ fit_NxF
        weights -= np.linalg.solve(curvature + _RIDGE * len(fit_NxF) * np.eye(len(weights)), gradient)
    scores = np.round(held_NxF @ weights, 9)
    return float(np.where(scores == 0, 0.5, (scores > 0) == (held[1] == 1)).mean())
