"""Small parameter trees with the library's leaf names."""

import jax.numpy as jnp
import numpy as np


def small_params(n_layers=2, d_model=8, d_mlp=16, d_attention=12, vocab_size=10, seed=0):
    """Random float32 parameters of every kind of leaf."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    def linear(width_in, width_out):
        return {"kernel": draw(n_layers, width_in, width_out), "bias": draw(n_layers, width_out)}

    return {
        "embed": {"kernel": draw(vocab_size, d_model)},
        "position": {"kernel": draw(6, d_model)},
        "layers": {
            "attn": {
                "norm": {"scale": draw(n_layers, d_model)},
                **{name: linear(d_model, d_attention) for name in ("q", "k", "v")},
                "out": linear(d_attention, d_model),
                "sink": draw(n_layers, 3),
            },
            "mlp": {
                "norm": {"scale": draw(n_layers, d_model)},
                "up": linear(d_model, d_mlp),
                "down": linear(d_mlp, d_model),
            },
        },
        "final_norm": {"scale": draw(d_model)},
        "unembed": {"kernel": draw(d_model, vocab_size)},
        "bigram": {"kernel": draw(vocab_size, vocab_size)},
        "logit_bias": draw(vocab_size),
    }
