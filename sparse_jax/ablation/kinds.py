"""The kinds of ablation: what a closed node carries (METHOD 8), and how several are named together.

A closed node carries share * its own value + (1 - share) * another value. Each kind says where both come
from:

| kind               | other value                                             | share of its own value      |
|--------------------|---------------------------------------------------------|-----------------------------|
| mean               | mean over training text                                 | 0                           |
| zero               | 0                                                       | 0                           |
| resample           | in another pair of the task, aligned at the last tokens | 0                           |
| resample_position  | in another pair of the task, at the same position       | 0                           |
| resample_text      | in training text, at the same position                  | 0                           |
| stochastic         | mean over training text                                 | uniform, by node and pair   |
| adversarial        | mean over training text                                 | worst, by node and prompt   |
| adversarial_shared | mean over training text                                 | worst, by node              |

Several kinds are joined with "+", as in "mean+resample": while gates are trained, they share the pairs of
a step; a circuit is judged by the kind under which its loss is largest.
"""

from sparse_jax.inputs import require, require_choice

# The objective under which open gates say what is ablated, not what is kept.
REMOVAL = "removal"
# For each training objective, the loss (a name in LOSSES) by which circuits are judged.
OBJECTIVES = {
    "binary": "binary",
    "full_vocabulary": "full_vocabulary",
    "kl": "binary",
    "binary+kl": "binary",
    REMOVAL: "knowledge",
}
CONSTANT_ABLATIONS = ("mean", "zero")
RESAMPLED = ("resample", "resample_position", "resample_text")
ADVERSARIAL = ("adversarial", "adversarial_shared")
ABLATIONS = (*CONSTANT_ABLATIONS, *RESAMPLED, "stochastic", *ADVERSARIAL)


def kinds_of(field: str, ablation: str) -> tuple[str, ...]:
    """The kinds that are joined in `ablation`. Raises InputError naming `field` for an unknown or double one.

    >>> kinds_of("ablation", "mean+resample")
    ('mean', 'resample')
    """
    kinds = tuple(str(ablation).split("+"))
    for kind in kinds:
        require_choice(field, kind, ABLATIONS)
    require(len(set(kinds)) == len(kinds), field, ablation, "each kind once")
    return kinds


def is_constant(ablation: str) -> bool:
    """Whether closed nodes carry one constant each: then closed nodes can be folded into biases."""
    return ablation in CONSTANT_ABLATIONS


def is_replaced(kind: str) -> bool:
    """Whether closed nodes carry nothing of their own value, so that it need not be computed."""
    return is_constant(kind) or kind in RESAMPLED


def is_drawn(kind: str) -> bool:
    """Whether a kind depends on a random draw, so that several draws tell more than one."""
    return kind in RESAMPLED or kind == "stochastic"


def can_pack(kinds: tuple[str, ...]) -> bool:
    """Whether the members of a pair may share the computation of their common beginning.

    Not with an adversary, who chooses for each of them.
    """
    return not set(kinds) & set(ADVERSARIAL)


def adversary_of(kind: str) -> str:
    """The kind if it has an adversary, else "": all others are run by the same programs."""
    return kind if kind in ADVERSARIAL else ""
