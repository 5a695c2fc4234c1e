"""The pair of models that a study compares: equal in loss, and the same when it goes on."""

import json
from collections.abc import Mapping
from pathlib import Path

from sparse_jax.circuits.graph import Circuit
from sparse_jax.files import read_json_object, user_path, write_whole
from sparse_jax.inputs import InputError
from sparse_jax.models.formats import load_model
from sparse_jax.models.model import Model
from sparse_jax.runtime.writers import read_rows

METRICS = "metrics.jsonl"
MIXTURE = "validation/mixture"
# Validation losses of a pair may differ by so much, in nats a token, where sizes of circuits are compared.
EQUAL = 0.01


def validation_loss(workdir: Path) -> float:
    """The loss on the mixture at the end of training, in nats a token, from the run's metrics."""
    found = read_rows(workdir / METRICS)
    return [row[MIXTURE] for row in found if MIXTURE in row][-1]


def known_loss(place: Path) -> float | None:
    """`validation_loss` of a model; None if no metrics are beside it."""
    return validation_loss(place) if (place / METRICS).exists() else None


def loss_of_model(circuit: Circuit) -> float | None:
    """`validation_loss` of the model that a circuit is of; None if that is not found.

    It has to be where it was when the circuit was found, or in a folder that the circuit is below.
    """
    origin, _, _ = str(circuit.provenance.get("model", "")).partition(" at step ")
    side = str(circuit.provenance.get("kind") or Path(origin).name)
    above = Path(user_path(circuit.folder)).parents if circuit.folder else ()
    for place in (user_path(origin), *(folder / side for folder in above)):
        if (loss := known_loss(place)) is not None and _is_model(place, circuit.provenance.get("weights")):
            return loss
    return None


def _is_model(place: Path, weights: object) -> bool:
    try:
        return load_model(place).fingerprint == weights
    except InputError:
        return False  # something else that has metrics


def unequal(losses: Mapping[str, float | None]) -> str:
    """The known losses, as text, if they are too far apart to compare sizes of circuits; else nothing.

    The circuits of a worse model are smaller, or larger, for that alone.
    """
    known = {name: loss for name, loss in losses.items() if loss is not None}
    if not known or max(known.values()) - min(known.values()) <= EQUAL:
        return ""
    return f"validation losses {shown(known)}"


def shown(losses: Mapping[str, float | None]) -> str:
    """The losses, as text."""
    return ", ".join(f"{n} {'unknown' if loss is None else f'{loss:.3f}'}" for n, loss in losses.items())


def require_equal(losses: Mapping[str, float | None]) -> None:
    """Raises InputError if models are known to predict text unequally well."""
    if said := unequal(losses):
        raise InputError(f"models: {said}; valid: at most {EQUAL:g} nats apart")


def load_pair(places: Mapping[str, str | Path]) -> dict[str, Model]:
    """The models to compare. Raises InputError if they are known to predict text unequally well."""
    found = {name: user_path(place) for name, place in places.items()}
    require_equal({name: known_loss(place) for name, place in found.items()})
    return {name: load_model(place) for name, place in found.items()}


def keep_models(models: Mapping[str, Model], workdir: Path) -> None:
    """Writes to `workdir` the hash of each model's weights.

    Raises InputError if results of another model are there.
    """
    path = workdir / "models.json"
    now = {name: model.fingerprint for name, model in models.items()}
    before = read_json_object(path) if path.exists() else {}
    for name, weights in now.items():
        if before.get(name, weights) != weights:
            raise InputError(
                f"workdir: {workdir} has results of another {name} model ({before[name]} there, "
                f"{weights} here); valid: a new one"
            )
    write_whole(path, json.dumps({**before, **now}, indent=1) + "\n")
