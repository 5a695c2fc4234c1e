"""The tokens that a circuit decides between."""

from collections.abc import Iterable, Sequence

import numpy as np

from sparse_jax.circuits.graph import Circuit
from sparse_jax.data.tokenizer import encode_texts
from sparse_jax.inputs import InputError, require
from sparse_jax.models.model import Model
from sparse_jax.tasks.find import find_task

# Pairs that are looked at for the answers of a task.
_PAIRS = 200
_VALID = "texts of one token each, or token ids"


def output_tokens(model: Model, circuit: Circuit, outputs: Sequence[int | str] | None) -> list[int]:
    """The ids of `outputs`, in their order; without them, the sorted answers of the circuit's task.

    A text alone is one token. Raises InputError for a text that is not one token, for what is neither a text
    nor a whole number, and if the answers are not known.
    """
    if outputs is None:
        return answers_of(model, circuit)
    require(isinstance(outputs, Iterable), "outputs", outputs, _VALID)
    return [_token(model, one) for one in ([outputs] if isinstance(outputs, str) else outputs)]


def _token(model: Model, output: int | str) -> int:
    if isinstance(output, str):
        ids = encode_texts(model.require_tokenizer(), [output])[0]
        require(len(ids) == 1, "outputs", output, _VALID)
        return ids[0]
    is_whole = np.ndim(output) == 0 and np.issubdtype(np.asarray(output).dtype, np.integer)
    require(is_whole, "outputs", output, _VALID)
    return int(output)


def answers_of(model: Model, circuit: Circuit) -> list[int]:
    """The sorted ids of all answers of the circuit's task, right and wrong.

    Raises InputError for a circuit that does not say, if its task is not a built-in one either.
    """
    about = circuit.provenance
    if "answers" in about:
        return sorted(int(token) for token in about["answers"])
    try:
        task = find_task(str(about.get("task")))
        pairs = task.encode("train", _PAIRS, 0, model.require_tokenizer(), model.config.context)
    except InputError as error:
        raise InputError(f"outputs: None, and the circuit's task is not known ({error})") from None
    return sorted(set(pairs.candidates.reshape(-1).tolist()))
