"""What pruning costs under a kind of ablation, by phase: a step of training, discretization, elimination.

python -m experiments.bench.judging --task=for_while --ablation=mean

The gates are trained as in `experiments.faithfulness`, then discretized and eliminated twice; the second time
counts, in which nothing is compiled, as it does for a step (the mean of some). One JSON line per phase: wall
seconds, and CPU seconds, which are less affected by other work on the machine. `run` are pairs that were run
under a variant of the gates, `of` those that would be if no variant were given up. Two minutes and more on
one CPU core.
"""

import collections
import dataclasses
import time

import numpy as np
from absl import flags

from experiments import command
from experiments.bench.timing import print_row
from experiments.configs.sections import small_pair_pruning
from experiments.flag_types import path_flag
from sparse_jax.ablation.judge import Judge
from sparse_jax.inputs import from_mapping
from sparse_jax.models.formats import load_model
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.discretize import LaneCurves
from sparse_jax.pruning.eliminate import eliminate
from sparse_jax.pruning.lanes import Optimized, make_lanes, optimize_gates
from sparse_jax.pruning.reduce import working_lanes
from sparse_jax.pruning.subject import Subject, prepare_subject
from sparse_jax.tasks.find import find_task
from sparse_jax.tasks.task_data import TaskData, task_data

MODEL = path_flag("model", "experiments/results/small/sparse", "a model")
TASK = flags.DEFINE_string("task", "for_while", "a task")
ABLATION = flags.DEFINE_string("ablation", "mean+resample+stochastic", "kinds joined with +")
CONFIDENCE = flags.DEFINE_float("confidence", 1.64, "standard errors added to a loss", lower_bound=0)
STEPS = 20  # timed

SECONDS: collections.Counter = collections.Counter()
RUN: collections.Counter = collections.Counter()
OF: collections.Counter = collections.Counter()


class Counting(Judge):
    """A judge that counts the pairs that it runs, and their seconds, by kind of ablation."""

    def _run(self, gates, ranks, closed_Cx2, batch):
        begun = time.perf_counter()
        losses = super()._run(gates, ranks, closed_Cx2, batch)
        kind = self.kinds[batch.kind]
        SECONDS[kind] += time.perf_counter() - begun
        RUN[kind] += len(closed_Cx2) * len(batch.places)  # without the copies that fill a batch
        return losses

    def variants(self, gates, ranks, closed_Cx2, limit=np.inf):
        OF.update({kind: len(closed_Cx2) * len(self.pairs.tokens) for kind in self.kinds})
        return super().variants(gates, ranks, closed_Cx2, limit)


def main() -> None:
    """Prints a line for each phase."""
    settings = small_pair_pruning(ablation=ABLATION.value, confidence=CONFIDENCE.value)
    prune = from_mapping(PruneConfig, settings, "pruning")
    model = load_model(MODEL.value)
    subject = prepare_subject(model, prune)
    data = task_data(find_task(TASK.value), model.require_tokenizer(), model.config.context, prune.counts)
    print_row({"phase": "step", **_about(), **_timed_step(subject, data, prune)})
    found = _trained(subject, data, prune)
    plain, target = subject.judge(data.validation, prune), prune.target_loss
    judge = Counting(**{field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)})

    def discretized():
        return LaneCurves(judge, working_lanes(found)).best((target,))[0].found.gates

    def eliminated():
        return eliminate(judge, gates, gates, target, prune.tied_qk).gates

    gates = discretized()
    eliminated()
    for phase in (discretized, eliminated):
        for counter in (SECONDS, RUN, OF):
            counter.clear()
        begun, begun_cpu = time.perf_counter(), time.process_time()
        left = phase()
        row = {
            "phase": phase.__name__,
            **_about(),
            "open": int(sum(np.count_nonzero(gate) for gate in left.values())),
            "seconds": time.perf_counter() - begun,
            "cpu_seconds": time.process_time() - begun_cpu,
            **{f"{name}_seconds": seconds for name, seconds in SECONDS.items()},
            **{f"{name}_run": RUN[name] for name in RUN},
            **{f"{name}_of": OF[name] for name in OF},
        }
        print_row(row)


def _about() -> dict[str, object]:
    return {"model": str(MODEL.value), "task": TASK.value, "ablation": ABLATION.value}


def _trained(subject: Subject, data: TaskData, prune: PruneConfig) -> Optimized:
    given = subject.model.config, prune, subject.model.params, subject.values, [data.train]
    return optimize_gates(*given, make_lanes(prune), "bench judging", text=subject.text)


def _timed_step(subject: Subject, data: TaskData, prune: PruneConfig) -> dict[str, float]:
    """Seconds of a step of training; the program is compiled in a first call."""
    few = dataclasses.replace(prune, steps=STEPS)
    _trained(subject, data, few)
    begun, begun_cpu = time.perf_counter(), time.process_time()
    _trained(subject, data, few)
    wall, cpu = time.perf_counter() - begun, time.process_time() - begun_cpu
    return {"seconds": wall / STEPS, "cpu_seconds": cpu / STEPS}


if __name__ == "__main__":
    command.run(main)
