"""A program whose nodes are known, with its true circuit in a file beside its ablation values."""

import numpy as np
import pytest

import sparse_jax as sj
from sparse_jax.faithfulness.known_programs import make_program
from sparse_jax.models.means import save_means


@pytest.fixture(scope="package")
def quotes(tmp_path_factory):
    """The program that closes quotes, and its circuit."""
    program, folder = make_program("quotes"), tmp_path_factory.mktemp("quotes")
    means = {site: np.asarray(mean) for site, mean in program.values.items()}
    save_means(means, folder / "means.npz", program.model.fingerprint)
    program.truth.save(folder / "circuit.json")
    return program, sj.load_circuit(folder / "circuit.json")
