"""Settings for every test: a CPU."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
