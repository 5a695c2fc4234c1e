"""Whether a program gives the answers of the circuit that it was written from."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sparse_jax.circuits.applied import check_task
from sparse_jax.circuits.compact_circuit import CompactCircuit
from sparse_jax.circuits.graph import Circuit
from sparse_jax.circuits.source_text import load
from sparse_jax.inputs import InputError
from sparse_jax.models.model import Model
from sparse_jax.tasks.encode import EncodedPairs
from sparse_jax.tasks.find import Spec, as_task

# Pairs, if the circuit does not say on how many it was tested.
_PAIRS = 256


def pairs_of_test(model: Model, circuit: Circuit, task: Spec | None) -> EncodedPairs:
    """The test split of a circuit's task, as many pairs as it was tested on.

    Raises InputError for a task that is not known, or not the one that the circuit was found for.
    """
    own = str(circuit.provenance.get("task"))
    try:
        chosen = as_task(own if task is None else task)
    except InputError as error:
        if task is not None:
            raise
        raise InputError(f"task: None, and the circuit's own is not known here ({error})") from None
    count = circuit.provenance.get("pruning", {}).get("test_pairs", _PAIRS)
    check_task(model, circuit, chosen)
    return chosen.encode("test", count, 0, model.require_tokenizer(), model.config.context)


class Verdict(NamedTuple):
    """How many answers of a program are the circuit's, and its task loss in nats."""

    answers: int
    loss: float


class Check:
    """Prompts as texts of tokens, and the circuit's answers; those that are decided least come first."""

    def __init__(self, small: CompactCircuit, pairs: EncodedPairs, texts: Sequence[str]) -> None:
        self.texts = texts
        tokens, last, right_wrong_Nx2 = pairs.flat()
        logits = np.asarray(small.forward(tokens, last))
        right, wrong = np.take_along_axis(logits, small.columns(right_wrong_Nx2), axis=1).T
        order = np.argsort(np.abs(right - wrong))
        self.prompts = [[texts[token] for token in tokens[i, : last[i] + 1]] for i in order]
        self.right_wrong = [tuple(texts[token] for token in right_wrong_Nx2[i]) for i in order]
        self.answers = [texts[right_wrong_Nx2[i, int(right[i] < wrong[i])]] for i in order]
        self.loss = float(np.logaddexp(0, wrong - right).mean())

    def verdict(self, program: str, answers: int = 0, loss: float = np.inf) -> Verdict | None:
        """The verdict on a program; None as soon as it gives fewer `answers`, or a larger `loss`."""
        logits, missed, total = load(program), 0, 0.0
        count = len(self.prompts)
        for prompt, (right, wrong), answer in zip(self.prompts, self.right_wrong, self.answers):
            found = logits(prompt)
            missed += (right if found[right] > found[wrong] else wrong) != answer
            total += float(np.logaddexp(0, found[wrong] - found[right]))
            if missed > count - answers or total > loss * count:
                return None
        return Verdict(count - missed, total / count)
