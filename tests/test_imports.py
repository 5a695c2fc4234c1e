"""The architecture: an import points to a lower floor, or stays in its room; no name says nothing."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = (
    ("inputs", "buckets", "copies", "files", "lease", "trees", "progress", "phrases", "topk"),
    ("model", "sparsity", "data", "runtime"),
    ("tasks", "models"),
    ("training", "circuits"),
    ("ablation", "meaning"),
    ("pruning", "bridges"),
    ("faithfulness", "planning", "viewer"),
    ("interactive", "gathering"),
    ("experiments",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# what some machine lacks is imported inside the function that needs it
LAZY = {"fsspec", "gcsfs", "google", "torch", "transformers", "wandb", "tensorflow", "tensorboardX", "libtpu"}
FILES = sorted([*ROOT.glob("sparse_jax/**/*.py"), *ROOT.glob("experiments/**/*.py")])


def room_of(module: str) -> str | None:
    """The room of a dotted module name of this project; None for the bare package and other projects."""
    parts = module.split(".")
    if parts[0] == "experiments":
        return "experiments"
    return parts[1] if parts[0] == "sparse_jax" and len(parts) > 1 else None


def imported(tree: ast.AST) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def upward(module: str, names: list[str]) -> list[str]:
    """The imports of `module` that do not point down (or stay inside the room)."""
    room = room_of(module)
    wrong = []
    for name in names:
        other = room_of(name)
        inside = FLOOR[room] == 0 or other == room
        if other in FLOOR and not inside and FLOOR[other] >= FLOOR[room]:
            wrong.append(f"{module} -> {name}")
        if other in FLOOR and FLOOR[room] == 0 and FLOOR[other] > 0:
            wrong.append(f"{module} -> {name}")
    return wrong


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    if room_of(module) in (None, "__init__"):
        return
    assert room_of(module) in FLOOR, f"{module} is on no floor: say in FLOORS where it belongs"
    tree = ast.parse(path.read_text())
    assert upward(module, imported(tree)) == []
    top_level = {name.split(".")[0] for node in tree.body for name in imported_here(node)}
    assert not top_level & LAZY


def imported_here(node: ast.stmt) -> list[str]:
    return imported(node) if isinstance(node, (ast.Import, ast.ImportFrom)) else []


def test_the_check_finds_what_it_should():
    assert upward("sparse_jax.model.layers", ["sparse_jax.sparsity.masks"])
    assert upward("sparse_jax.circuits.graph", ["sparse_jax.pruning.step"])
    assert upward("sparse_jax.trees", ["sparse_jax.model.config"])
    assert not upward(
        "sparse_jax.training.loop", ["sparse_jax.data.corpus", "sparse_jax.training.step", "jax"]
    )


def test_names_say_something():
    empty = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert [path for path in FILES if set(path.relative_to(ROOT).with_suffix("").parts) & empty] == []


def test_two_modules_of_one_name_mean_the_same():
    """Every room may have its config; training and pruning each have a pure step and its compiled program."""
    shared = {"__init__", "config", "step", "program"}
    names = [path.stem for path in FILES if path.relative_to(ROOT).parts[0] == "sparse_jax"]
    assert [name for name in sorted(set(names)) if names.count(name) > 1 and name not in shared] == []


def test_every_module_says_what_it_is():
    silent = [path for path in FILES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_launch_imports_nothing_and_is_imported_by_nobody():
    assert list(ROOT.glob("launch/**/*.py")) == []
