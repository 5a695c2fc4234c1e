"""Sampling text from the model, with a cache of keys and values or without."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sparse_jax.inputs import InputError, require, whole
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, check_ids, empty_cache, forward, forward_cached
from sparse_jax.model.hooks import NO_HOOKS, Hooks, check_hooks, check_steady

# With others, logits / temperature may be infinite in float32, or not a number.
TEMPERATURES = (1e-30, 1e30)


def generate(
    config: ModelConfig,
    params: Params,
    prompt_BxT: jax.Array,
    tokens: int,
    key: jax.Array,
    temperature: float = 1.0,
    top_k: int | None = None,
    hooks: Hooks = NO_HOOKS,
    cached: bool = True,
) -> jax.Array:
    """Continues each prompt [B, T] by `tokens` sampled ones -> [B, T + tokens].

    temperature 0 takes the most likely token; top_k samples only among the k most likely. hooks: the same
    at every position (`check_steady`). `cached=False` runs the whole prefix again for every token, which is
    slower and gives the same tokens.

    Raises InputError if prompt and new tokens exceed the context, a token id is not in the vocabulary, or a
    setting is out of range.
    """
    length = prompt_BxT.shape[1]
    require(length >= 1, "prompt", length, "at least one token")
    check_prompt(config, length)
    room = config.context - length
    require(0 <= tokens <= room, "tokens", tokens, f"0 to {room} after this prompt")
    coldest, hottest = TEMPERATURES
    valid = f"0, or {coldest:g} to {hottest:g}"
    is_number = np.ndim(temperature) == 0 and np.issubdtype(np.asarray(temperature).dtype, np.number)
    fits = is_number and (temperature == 0 or coldest <= temperature <= hottest)
    require(fits, "temperature", temperature, valid)
    top_k = None if top_k is None else whole("top_k", top_k)
    require(
        top_k is None or 1 <= top_k <= config.vocab_size,
        "top_k", top_k, f"None, or 1 to {config.vocab_size}",
    )  # fmt: skip
    check_ids(config, prompt_BxT, "prompt")
    check_hooks(config, hooks, prompt_BxT.shape)
    check_steady(hooks)
    run = _generate_cached if cached else _generate_plain
    return run(config, params, prompt_BxT, tokens, key, float(temperature), top_k, hooks)


def check_prompt(config: ModelConfig, length: int) -> None:
    """Raises InputError for a prompt of more tokens than the context."""
    if length > config.context:
        raise InputError(f"prompt: {length} tokens; valid: at most {config.context}, the model's context")


def sample(key: jax.Array, logits_BxV: jax.Array, temperature: float, top_k: int | None):
    """One token per row, [B], drawn from the softmax of logits / temperature over the top k."""
    if temperature == 0:
        return jnp.argmax(logits_BxV, axis=-1).astype(jnp.int32)
    if top_k is not None:
        cut = jax.lax.top_k(logits_BxV, top_k)[0][:, -1:]
        logits_BxV = jnp.where(logits_BxV < cut, -jnp.inf, logits_BxV)
    return jax.random.categorical(key, logits_BxV / temperature).astype(jnp.int32)


_static = functools.partial(jax.jit, static_argnums=(0, 3, 5, 6))


@_static
def _generate_cached(config, params, prompt, new_tokens, key, temperature, top_k, hooks):
    empty = empty_cache(config, prompt.shape[0])
    logits, cache = forward_cached(config, params, prompt, empty, 0, hooks)

    def step(carry, key):
        logits, cache, position = carry
        token = sample(key, logits, temperature, top_k)
        logits, cache = forward_cached(config, params, token[:, None], cache, position, hooks)
        return (logits[:, -1], cache, position + 1), token

    start = (logits[:, -1], cache, jnp.int32(prompt.shape[1]))
    _, tokens = jax.lax.scan(step, start, jax.random.split(key, new_tokens))
    return jnp.concatenate([prompt, tokens.T], axis=1)


@_static
def _generate_plain(config, params, prompt, new_tokens, key, temperature, top_k, hooks):
    length = prompt.shape[1]

    def step(carry, key):
        tokens, position = carry
        at = jnp.full(tokens.shape[:1], position - 1)
        logits, _ = forward(config, params, tokens, hooks, at_B=at)
        token = sample(key, logits, temperature, top_k)
        return (tokens.at[:, position].set(token), position + 1), None

    tokens = jnp.pad(prompt, ((0, 0), (0, new_tokens)))
    (tokens, _), _ = jax.lax.scan(step, (tokens, length), jax.random.split(key, new_tokens))
    return tokens
