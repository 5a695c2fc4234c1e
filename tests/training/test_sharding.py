"""What moves between devices for the sake of sparsity: counts, and no weight or activation."""

import json
import subprocess
import sys

import pytest

from tests.training import collectives as program


@pytest.mark.parametrize("mesh", [("2", "4"), ("1", "8")])
def test_top_k_moves_only_counts_between_devices(mesh):
    """A process of its own, since the number of simulated devices is fixed at its start."""
    command = [sys.executable, "-m", "tests.training.collectives", *mesh]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    found = json.loads(done.stdout)
    assert found["abs_top_k"] == []
    assert found["update"], "matrices are split, so counts must be added up"
    # a number for each channel at most, for the channels' minimum; the share of a matrix has 8 times as many
    config = program.CONFIG
    most = config.n_layers * config.d_mlp
    for kind, entries in found["update"]:
        assert kind == "all-reduce" and entries <= most, (kind, entries)


def test_collectives_of_a_program_are_seen():
    class Compiled:
        def as_text(self):
            both = "%a = (s32[2,64]{1,0}, f32[]) all-reduce(%b, %c)\n%d = f32[8]{0} all-gather-start(%e)"
            return both + "\n%f = f32[] add(%g)"

    assert program.collectives(Compiled()) == [("all-reduce", 128), ("all-reduce", 1), ("all-gather", 8)]
