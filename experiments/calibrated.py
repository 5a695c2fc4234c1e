"""Makes circuits smaller that are judged after calibration, by a scale and a shift of their logits.

python -m experiments.calibrated --model=experiments/results/wider_pair/sparse \
    --circuits=experiments/results/wider_pair/circuits/sparse/mean --output=runs/calibrated/sparse

--circuits is a directory of one model's circuits, as experiments.prune writes them; --output gets the smaller
ones, which experiments.compare puts side by side. Those that it has already are not made again.
"""

from experiments import command
from experiments.flag_types import names_flag, path_flag
from experiments.studies.calibrated import reduce_calibrated
from experiments.studies.comparison import circuits_in
from sparse_jax.circuits.applied import check_task
from sparse_jax.circuits.graph import load_circuit
from sparse_jax.files import require_writable, user_path
from sparse_jax.inputs import InputError, require_choice
from sparse_jax.models.formats import load_model
from sparse_jax.tasks.find import find_task

MODEL = path_flag("model", None, "the model that the circuits are of", required=True)
CIRCUITS = path_flag("circuits", None, "a directory with circuits of the model", required=True)
OUTPUT = path_flag("output", None, "where the smaller circuits go, TASK.json", required=True)
TASKS = names_flag("tasks", None, "only these tasks (default: all that there are circuits for)")


def main() -> None:
    """Checks everything, then makes one circuit after the other smaller."""
    circuits = circuits_in(user_path(CIRCUITS.value), "--circuits")
    for name in TASKS.value or ():
        require_choice("--tasks", name, sorted(circuits))
    output = user_path(OUTPUT.value)
    places = {name: output / f"{name}.json" for name in TASKS.value or circuits}
    kept = {}
    for name, place in places.items():
        require_writable(place)
        kept[name] = load_circuit(place) if place.exists() else None
        if kept[name] and kept[name].provenance.get("identity") != circuits[name].provenance["identity"]:
            raise InputError(f"--output: {place} comes from another circuit; valid: a new directory")
    model = load_model(user_path(MODEL.value))
    tasks = {name: find_task(name) for name in places}
    for name, task in tasks.items():
        check_task(model, circuits[name], task)
    for name, place in places.items():
        found = kept[name]
        if found is None:
            found = reduce_calibrated(model, circuits[name], tasks[name], f"{name}, calibrated")
            found.save(place)
        before, after, loss = len(circuits[name].edges), len(found.edges), found.losses["calibrated"]
        print(f"{name}: {before} edges, {after} if calibrated; loss on test pairs {loss:.3f}")


if __name__ == "__main__":
    command.run(main)
