"""Settings for every test: four simulated CPU devices, so that sharding is never left out."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402
import pytest  # noqa: E402

from sparse_jax.training.config import run_config  # noqa: E402
from tests.tiny_run import tiny  # noqa: E402

jax.config.update("jax_num_cpu_devices", 4)


@pytest.fixture(scope="session")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def mapping(directory):
    """A run that takes seconds, as nested dicts that a test may change."""
    return tiny(directory)


@pytest.fixture
def config(mapping):
    return run_config(mapping)
