"""Weight-sparse transformers and their circuits, in JAX: `import sparse_jax as sj`.

This module exports the public names. Each is imported on first use, so that importing `sparse_jax` is cheap.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.2.0"

if TYPE_CHECKING:
    from sparse_jax.ablation.score import Score
    from sparse_jax.circuits.compact_circuit import CompactCircuit
    from sparse_jax.circuits.compact_files import load_compact
    from sparse_jax.circuits.graph import Circuit
    from sparse_jax.faithfulness.contributions import contributions
    from sparse_jax.faithfulness.scorecard import Scorecard
    from sparse_jax.gathering import findings
    from sparse_jax.inputs import InputError
    from sparse_jax.interactive import (
        generate,
        load_circuit,
        prune,
        run,
        score,
        scorecard,
        task,
        task_names,
        token_ids,
        train,
    )
    from sparse_jax.meaning.bits import binarize
    from sparse_jax.meaning.explain import explain
    from sparse_jax.meaning.hypothesis import test_hypothesis
    from sparse_jax.meaning.traces import trace
    from sparse_jax.model.hooks import Patch
    from sparse_jax.models.formats import load_model as load
    from sparse_jax.models.formats import save_model as save
    from sparse_jax.models.model import Model
    from sparse_jax.pruning.prunings import prunings
    from sparse_jax.training import presets
    from sparse_jax.viewer.circuit_page import report, view

# public name: (module, name there; None for the module itself)
_PUBLIC = {
    "Circuit": ("circuits.graph", "Circuit"),
    "CompactCircuit": ("circuits.compact_circuit", "CompactCircuit"),
    "InputError": ("inputs", "InputError"),
    "Model": ("models.model", "Model"),
    "Patch": ("model.hooks", "Patch"),
    "Score": ("ablation.score", "Score"),
    "Scorecard": ("faithfulness.scorecard", "Scorecard"),
    "binarize": ("meaning.bits", "binarize"),
    "contributions": ("faithfulness.contributions", "contributions"),
    "explain": ("meaning.explain", "explain"),
    "findings": ("gathering", "findings"),
    "generate": ("interactive", "generate"),
    "load": ("models.formats", "load_model"),
    "load_compact": ("circuits.compact_files", "load_compact"),
    "load_circuit": ("interactive", "load_circuit"),
    "presets": ("training.presets", None),
    "prune": ("interactive", "prune"),
    "prunings": ("pruning.prunings", "prunings"),
    "report": ("viewer.circuit_page", "report"),
    "run": ("interactive", "run"),
    "save": ("models.formats", "save_model"),
    "score": ("interactive", "score"),
    "scorecard": ("interactive", "scorecard"),
    "task": ("interactive", "task"),
    "task_names": ("interactive", "task_names"),
    "test_hypothesis": ("meaning.hypothesis", "test_hypothesis"),
    "token_ids": ("interactive", "token_ids"),
    "trace": ("meaning.traces", "trace"),
    "train": ("interactive", "train"),
    "view": ("viewer.circuit_page", "view"),
}

__all__ = [
    "Circuit",
    "CompactCircuit",
    "InputError",
    "Model",
    "Patch",
    "Score",
    "Scorecard",
    "binarize",
    "contributions",
    "explain",
    "findings",
    "generate",
    "load",
    "load_circuit",
    "load_compact",
    "presets",
    "prune",
    "prunings",
    "report",
    "run",
    "save",
    "score",
    "scorecard",
    "task",
    "task_names",
    "test_hypothesis",
    "token_ids",
    "trace",
    "train",
    "view",
]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(
            f"module 'sparse_jax' has no attribute {name!r}; public names: {', '.join(__all__)}"
        )
    module, attribute = _PUBLIC[name]
    found = importlib.import_module(f"sparse_jax.{module}")
    found = found if attribute is None else getattr(found, attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
