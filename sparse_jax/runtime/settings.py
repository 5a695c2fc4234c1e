"""Settings of JAX under which the numbers of this library would be others, or none."""

import jax

from sparse_jax.inputs import InputError

# setting: (its flag in the environment, the values that serve)
_NEEDED = {
    "jax_enable_x64": ("JAX_ENABLE_X64", (False,)),
    "jax_numpy_rank_promotion": ("JAX_NUMPY_RANK_PROMOTION", ("allow", "warn")),
    "jax_numpy_dtype_promotion": ("JAX_NUMPY_DTYPE_PROMOTION", ("standard",)),
}


def require_settings() -> None:
    """Raises InputError naming a setting of JAX that this library does not work with."""
    for setting, (flag, valid) in _NEEDED.items():
        value = getattr(jax.config, setting)
        if value not in valid:
            value = getattr(value, "value", value)  # of an enum
            raise InputError(
                f"{flag}: {value!r} is not supported; valid: {' or '.join(map(repr, valid))}, the default "
                f"(in Python: jax.config.update({setting!r}, {valid[0]!r}))"
            )
