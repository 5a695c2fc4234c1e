import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest

from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import param_shapes
from sparse_jax.models.model import Model
from sparse_jax.trees import map_named

DATA = Path(__file__).parents[1] / "data"
SMALL = {
    "vocab_size": 24, "context": 12, "n_layers": 2, "d_model": 16, "d_head": 4, "n_heads": 2, "d_mlp": 20,
}  # fmt: skip


@pytest.fixture(scope="session")
def released(tmp_path_factory):
    """Released directories by name, unpacked; to be copied before they are changed."""
    folder = tmp_path_factory.mktemp("released")
    for packed in DATA.glob("released/*/final_model.pt.gz"):
        directory = folder / packed.parent.name
        directory.mkdir()
        shutil.copy(packed.parent / "beeg_config.json", directory)
        (directory / "final_model.pt").write_bytes(gzip.decompress(packed.read_bytes()))
    return folder


@pytest.fixture
def make():
    """A small model of ours of a config that differs from the default in what is given."""

    def model(**changes) -> Model:
        config = ModelConfig(**{**SMALL, **changes})
        numbers = np.random.default_rng(0)

        def leaf(name, shape):
            return numbers.normal(0.0, 0.3, shape.shape).astype(np.float32) + name.endswith("scale")

        return Model(config, map_named(leaf, param_shapes(config)))

    return model
