"""The configuration of a pruning run."""

import dataclasses
import functools

from flax import struct

from sparse_jax.ablation.kinds import OBJECTIVES, REMOVAL, RESAMPLED, is_constant, kinds_of
from sparse_jax.inputs import require, require_choice, whole_seed
from sparse_jax.model import sites
from sparse_jax.models.means import MEAN_WINDOWS
from sparse_jax.tasks.task_data import Counts
from sparse_jax.trees import Array

# How gates follow from their logits while they are trained.
GATES = ("step", "hard_concrete")


@dataclasses.dataclass(frozen=True)
class PruneConfig:
    """A pruning run of METHOD 6; the defaults of the gates' optimizer are METHOD's search centers.

    objective: "binary" compares the two candidate tokens; "full_vocabulary" is the cross-entropy of the
    right token over the full vocabulary, which a circuit can minimize by always emitting the same token (kept
    for comparison); "kl" is KL(full model || circuit) of the next-token distributions; "binary+kl" is the
    sum of both; "removal" finds the fewest nodes without which the model no longer does the task: open gates
    say what is ablated, the objective is the model's logit difference where it is positive, and `target_loss`
    is how far below chance (ln 2) the loss may stay (`faithfulness.removal`).
    ablation: what closed nodes carry, while gates are trained and where circuits are judged: a kind of
    `ablation/kinds.py` ("mean", "zero", "resample", "resample_position", "resample_text", "stochastic",
    "adversarial", "adversarial_shared"), or several joined with "+", of which the worst decides. draws: how
    often each pair is judged under a random kind.
    confidence: how many standard errors above its mean loss on the validation split a circuit still has to
    be within the target, so that it is within the target on other pairs too.
    confirmation_pairs: how many further pairs of the validation split a circuit has to be within the target
    on: hundreds of removals on the same pairs keep what happens to suit these. Where it is not, it is found
    again for a stricter target. 0 confirms nothing.
    role_coef: the penalty for kept nodes that do not do what they do in the full model, times their mean
    unexplained variance.
    tied_qk: channel i of q and of k share one gate; they still count as two nodes.
    frozen_norms: every RMSNorm divides by the root mean square that it has in the full model on the same
    tokens, so that pruning does not amplify what is left. The circuits have to be run in the same way (their
    provenance records it).
    shifts: kinds of shift of the tasks ("words", "nesting", "distractors") that circuits are found on as
    well. Training and validation pairs are drawn in equal parts from the main split and from each kind, so
    that a circuit is chosen on what it was trained for; test pairs are those of the main split. Prompts, and
    so every step, can be twice as long.
    swaps: whether, after elimination, nodes that help are let in so that more of the others can go
    (`pruning/swap.py`).
    constants: whether nodes that only hold a constant are replaced by it in the end (`circuit.constants`):
    each carries its mean over the prompts then, whatever the ablation, and what led to it can go.
    sites: the gated sites: all sites of the layers, and optionally `embed` and `final_resid`.
    gate: "step", open where a logit is at least 0, with the gradient of a logistic function; or
    "hard_concrete", random gates between 0 and 1 (`sparsity.hard_concrete`), whose expected number of open
    ones takes the place of the number. Circuits are discretized and judged in the same way.
    forbidden: nodes that no circuit may have, by name ("1.mlp_neuron.17", a channel of q and of k together if
    `tied_qk`): what is found without the nodes of an earlier circuit is a backup of it.
    compact: during training, nodes whose logits are too low to open again are closed for good and no longer
    computed. This compiles two more programs, so it pays off for many lanes or large models. Needs a
    constant ablation ("mean", "zero"). Gates of edges, which are trained after the nodes, are never dropped.
    steps, pairs: of the gate optimization; `*_pairs` count pairs of each split; `k_coef` is the penalty
    per open gate, in nats; `init_mean` and `init_scale` are the mean and the standard deviation of the
    initial gate logits.

    Raises InputError naming `pruning.<field>`.
    """

    target_loss: float = 0.15
    steps: int = 2000
    pairs_per_step: int = 64
    train_pairs: int = 2048
    validation_pairs: int = 256
    test_pairs: int = 256
    sites: tuple[str, ...] = sites.LAYER_SITES
    constants: bool = dataclasses.field(default=False, repr=False)
    forbidden: tuple[str, ...] = dataclasses.field(default=(), repr=False)  # see `Subject.about`
    gate: str = dataclasses.field(default="step", repr=False)
    objective: str = "binary"
    ablation: str = "mean"
    draws: int = 1
    confidence: float = 0.0
    role_coef: float = 0.0
    tied_qk: bool = True
    swaps: bool = True
    frozen_norms: bool = False
    k_coef: float = 1e-4
    learning_rate: float = 3e-3
    warmup: float = 0.05
    b2: float = 0.95
    weight_decay: float = 1e-3
    init_mean: float = 0.1
    init_scale: float = 0.01
    temperature: float = 1.0
    gradient_clip: float = 1.0
    compact: bool = False
    calibration_steps: int = 16
    mean_windows: int = MEAN_WINDOWS
    seed: int = 0
    # not in `repr`, by which stored circuits are found again: their pairs tell whether there were any
    shifts: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    confirmation_pairs: int = dataclasses.field(default=0, repr=False)

    def __post_init__(self) -> None:
        require_choice("pruning.objective", self.objective, OBJECTIVES)
        require_choice("pruning.gate", self.gate, GATES)
        kinds_of("pruning.ablation", self.ablation)
        for site in self.sites:
            require_choice("pruning.sites", site, sites.NODE_SITES)
        missing = [site for site in sites.LAYER_SITES if site not in self.sites]
        # an edge between nodes that no gate could have closed would be in no circuit, or in all
        require(not missing, "pruning.sites", self.sites, f"all of {', '.join(sites.LAYER_SITES)}, and more")
        valid = f"False with pruning.ablation {self.ablation!r}, or pruning.ablation 'mean' or 'zero'"
        # the contribution of a closed node is folded into the biases once, for all steps
        require(not self.compact or is_constant(self.ablation), "pruning.compact", True, valid)
        valid = "False with pruning.gate 'hard_concrete', whose closed gates open again by chance"
        require(not self.compact or self.gate == "step", "pruning.compact", True, valid)
        # which nodes are dropped is decided among those that are trained, so all of them have to be
        valid = "False with pruning.forbidden"
        require(not self.compact or not self.forbidden, "pruning.compact", True, valid)
        valid = "False with pruning.objective 'removal'"
        for name in ("compact", "constants", "role_coef"):  # they are about nodes that are kept
            given = getattr(self, name)
            require(not (self.is_removal and given), f"pruning.{name}", given, valid)
        # nodes that are not computed have no values to compare
        valid = "False with pruning.role_coef above 0"
        require(not self.compact or self.role_coef == 0, "pruning.compact", True, valid)
        for name in ("target_loss", "learning_rate", "temperature", "gradient_clip"):
            require(getattr(self, name) > 0, f"pruning.{name}", getattr(self, name), "above 0")
        for name in (
            "k_coef",
            "role_coef",
            "confidence",
            "weight_decay",
            "init_scale",
            "calibration_steps",
            "confirmation_pairs",
        ):
            require(getattr(self, name) >= 0, f"pruning.{name}", getattr(self, name), "at least 0")
        whole_seed("pruning.seed", self.seed)
        for name in ("steps", "pairs_per_step", "validation_pairs", "test_pairs", "mean_windows", "draws"):
            require(getattr(self, name) >= 1, f"pruning.{name}", getattr(self, name), "at least 1")
        self._require_donors()
        shared = f"at least {len(self.kinds)}, one for each kind in pruning.ablation"
        enough = self.pairs_per_step >= len(self.kinds)
        require(enough, "pruning.pairs_per_step", self.pairs_per_step, shared)
        for name in ("warmup", "b2"):
            require(0 <= getattr(self, name) < 1, f"pruning.{name}", getattr(self, name), "in [0, 1)")
        require(
            self.train_pairs >= self.pairs_per_step,
            "pruning.train_pairs",
            self.train_pairs,
            f"at least pairs_per_step {self.pairs_per_step}",
        )
        for kind in self.shifts:
            require(self.shifts.count(kind) == 1, "pruning.shifts", self.shifts, "each kind once")
        fewest = min(self.train_pairs, self.validation_pairs)
        valid = f"fewer kinds than pairs of a split, {fewest}"
        require(len(self.shifts) < fewest, "pruning.shifts", self.shifts, valid)

    def _require_donors(self) -> None:
        """Resampled values come from another pair of the same split, so each split needs two."""
        if not set(self.kinds) & set(RESAMPLED):
            return
        valid = f"at least 2 with pruning.ablation {self.ablation!r}"
        for name in ("train_pairs", "validation_pairs", "test_pairs"):
            require(getattr(self, name) > 1, f"pruning.{name}", getattr(self, name), valid)
        fresh = self.confirmation_pairs
        require(fresh != 1, "pruning.confirmation_pairs", fresh, f"{valid}, or 0")

    @property
    def judged_by(self) -> str:
        """The loss (a name in LOSSES) that is compared with `target_loss`."""
        return OBJECTIVES[self.objective]

    @property
    def is_removal(self) -> bool:
        """Whether open gates say what is ablated, not what is kept."""
        return self.objective == REMOVAL

    @functools.cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of ablation, of which the worst decides."""
        return kinds_of("pruning.ablation", self.ablation)

    @property
    def ablation_sites(self) -> tuple[str, ...]:
        """The sites whose means a run is given: all of them, but `embed` only if it is gated.

        Random values are drawn site by site, so a run without gates on `embed` must not draw for it: its
        other draws would change.
        """
        return tuple(site for site in sites.NODE_SITES if site != sites.EMBED_SITE or site in self.sites)

    @property
    def counts(self) -> Counts:
        """What decides which pairs of a task are taken."""
        return Counts.of({name: getattr(self, name) for name in Counts._fields})

    def hyperparameters(self) -> "Hyperparameters":
        """The numbers that a search may vary between lanes of one compiled program."""
        names = [field.name for field in dataclasses.fields(Hyperparameters)]
        return Hyperparameters(**{name: getattr(self, name) for name in names})


@struct.dataclass
class Hyperparameters:
    """A pytree of scalars (arrays [R] for R lanes): the eight that METHOD 6 searches over, and the clip."""

    k_coef: float | Array
    learning_rate: float | Array
    warmup: float | Array
    b2: float | Array
    weight_decay: float | Array
    init_mean: float | Array
    init_scale: float | Array
    temperature: float | Array
    gradient_clip: float | Array
