"""Every example in a docstring of the library runs, and every public function has one."""

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import sparse_jax as sj

ROOT = Path(__file__).parents[1]
PRESETS = ("tiny", "quickstart", "small", "wide", "paper")
SKIP = doctest.OPTIONFLAGS_BY_NAME["SKIP"]
# Examples that take more than a few seconds.
DEAR = (
    "sparse_jax.circuits.graph.Circuit.code",
    "sparse_jax.gathering.findings",
    "sparse_jax.interactive.scorecard",
    "sparse_jax.interactive.train",
    "sparse_jax.meaning.bits.binarize",
)


def examples():
    """Those of all docstrings of the library, by the full name of what they are of."""
    found = {}
    for path in sorted((ROOT / "sparse_jax").rglob("*.py")):
        if ">>>" in path.read_text():
            module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
            found |= {one.name: one for one in doctest.DocTestFinder().find(module) if one.examples}
    return found


EXAMPLES = examples()


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(one, id=name, marks=[pytest.mark.slow] if name in DEAR else [])
        for name, one in EXAMPLES.items()
    ],
)
def test_the_examples_run(example, monkeypatch):
    monkeypatch.chdir(ROOT)
    said = []
    found = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=said.append)
    assert found.attempted > 0 and found.failed == 0, "".join(said)


def test_every_public_function_has_an_example_and_each_is_run():
    public = [*(getattr(sj, name) for name in sj.__all__), *(getattr(sj.presets, name) for name in PRESETS)]
    functions = {f"{one.__module__}.{one.__name__}" for one in public if inspect.isfunction(one)}
    assert len(functions) > 25 and functions <= set(EXAMPLES)
    assert set(DEAR) <= set(EXAMPLES)
    skipped = [name for name, one in EXAMPLES.items() for each in one.examples if SKIP in each.options]
    assert skipped == []
