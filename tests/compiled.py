"""The forward function as one program, for tests that call it outside of others."""

import jax

from sparse_jax.model import forward as model

forward = jax.jit(model.forward, static_argnums=0)
