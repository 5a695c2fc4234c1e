"""Ablation values of a model: the means of its nodes over its training text, and windows of that text."""

import functools
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

from sparse_jax.data.config import data_config
from sparse_jax.data.corpus import Corpus, prepare
from sparse_jax.data.loader import validation_windows
from sparse_jax.data.simple_python import programs as generated
from sparse_jax.data.tokenizer import encode_texts, end_of_text
from sparse_jax.files import read_arrays, user_path, write_whole
from sparse_jax.inputs import InputError, require
from sparse_jax.model import sites
from sparse_jax.model.config import ModelConfig
from sparse_jax.model.forward import Params, check_ids, forward
from sparse_jax.model.hooks import Hooks
from sparse_jax.models.model import Model
from sparse_jax.progress import finish_line
from sparse_jax.trees import Arrays

# The default number of windows of text that means are taken over.
MEAN_WINDOWS = 128
# The default sites that have ablation values.
_USUAL_SITES = tuple(site for site in sites.NODE_SITES if site != sites.EMBED_SITE)


def node_means(
    config: ModelConfig, params: Params, windows_WxT: np.ndarray, batch_size: int = 16
) -> dict[str, jax.Array]:
    """Mean over windows and positions of every node site, [L, N] ([N] outside the layers), float32.

    Of the very model that is pruned, AbsTopK included (METHOD 6). The windows that do not fill a last
    batch are left out, so that one program serves. Raises InputError for token ids that the model does not
    have.
    """
    check_ids(config, windows_WxT, "windows")
    batch_size = min(batch_size, len(windows_WxT))
    params = jax.device_put(params)  # once, not for every batch
    totals, batches = None, len(windows_WxT) // batch_size
    for i in range(batches):
        means = _batch_means(config, params, windows_WxT[i * batch_size : (i + 1) * batch_size])
        totals = means if totals is None else jax.tree.map(jnp.add, totals, means)
    return jax.tree.map(lambda total: total / batches, totals)


@functools.partial(jax.jit, static_argnums=0)
def _batch_means(config: ModelConfig, params: Params, tokens: jax.Array) -> dict[str, jax.Array]:
    captured = forward(config, params, tokens, Hooks(capture=sites.NODE_SITES))[1]
    return {site: jnp.mean(x, axis=(-3, -2), dtype=jnp.float32) for site, x in captured.items()}


def save_means(means: Arrays, path: str | os.PathLike, model: str) -> None:
    """Writes the means, with the fingerprint of their model, to an npz file, atomically."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {site: np.asarray(mean) for site, mean in means.items()}
    np.savez_compressed(buffer, model=model, **arrays)
    write_whole(path, buffer.getvalue())


def load_means(path: str | os.PathLike, model: str | None = None) -> dict[str, np.ndarray]:
    """Reads what `save_means` wrote. Older files have no means for `embed`.

    Raises InputError for a missing or invalid file and, if `model` is given, for means of another model.
    """
    means, found = _arrays(path, "means")
    if set(means) | {sites.EMBED_SITE} != set(sites.NODE_SITES):
        raise InputError(f"means: {path} contains {sorted(means)}; valid: {', '.join(sites.NODE_SITES)}")
    if model is not None and found != model:
        raise InputError(f"means: {path} belongs to model {found}; valid: means of model {model}")
    return means


def save_windows(windows_WxT: np.ndarray, path: str | os.PathLike, model: str) -> None:
    """Writes windows of token ids, with the fingerprint of their model, to an npz file, atomically."""
    buffer = io.BytesIO()
    smallest = np.min_scalar_type(windows_WxT.max())
    np.savez_compressed(buffer, model=model, windows=windows_WxT.astype(smallest))
    write_whole(path, buffer.getvalue())


def load_windows(path: str | os.PathLike, model: str) -> np.ndarray:
    """Reads the token ids [W, T], int32, that `save_windows` wrote.

    Raises InputError for a missing or invalid file, and for windows of another model than `model`.
    """
    arrays, found = _arrays(path, "text")
    if list(arrays) != ["windows"] or arrays["windows"].ndim != 2:
        raise InputError(f"text: {path} contains {sorted(arrays)}; valid: windows, of shape [W, T]")
    if found != model:
        raise InputError(f"text: {path} belongs to model {found}; valid: text of model {model}")
    return arrays["windows"].astype(np.int32)


def _arrays(path: str | os.PathLike, field: str) -> tuple[dict[str, np.ndarray], str]:
    """The arrays of a file, and the fingerprint of the model that they belong to."""
    try:
        arrays = read_arrays(user_path(path))
    except (OSError, ValueError) as error:
        raise InputError(f"{field}: {path} cannot be read ({error})") from None
    return arrays, str(arrays.pop("model", "unknown"))


def ablation_values(
    model: Model,
    names: Sequence[str] = _USUAL_SITES,
    windows: int = MEAN_WINDOWS,
    corpus: Corpus | None = None,
) -> Arrays:
    """For each site in `names`, means over about `windows` windows of training text.

    corpus: the prepared text of the model; without it, the means that a published model has beside it are
    read, or its text is prepared if they are not there, not those of all sites, or those of another model.
    Raises InputError if the text is not what the model was trained on, and for means that are not finite.
    """
    means: Arrays = (_published(model, _means_name(windows), load_means) if corpus is None else None) or {}
    missing = sorted(set(names) - means.keys())
    if missing:
        instead = f", or with the means of {', '.join(missing)} in {_means_name(windows)} in its directory"
        corpus = corpus or training_corpus(model, instead)
        means = node_means(model.config, model.params, text_windows(model, windows, corpus))
    chosen = {site: means[site] for site in names}
    require_finite(chosen)
    return chosen


def require_finite(values: Arrays) -> None:
    """Raises InputError naming the site of ablation values that are NaN or infinite."""
    for site, mean in values.items():
        bad = int(np.size(mean) - np.isfinite(mean).sum())
        if bad:
            raise InputError(
                f"ablation values: {bad} of {np.size(mean)} at {site!r} are not finite; "
                "valid: a model with finite weights and activations"
            )


def text_windows(
    model: Model, windows: int = MEAN_WINDOWS, corpus: Corpus | None = None, instead: str = ""
) -> np.ndarray:
    """About `windows` windows [W, T] of the model's training text.

    corpus: that text, prepared, if it is at hand; without it, the windows that a published model has beside
    it are read, or its text is prepared if they are not there. instead: what would do as well if the text is
    unknown, for that message. Raises InputError if the text is unknown or has changed, and for published
    windows of another length than the model's context.
    """
    if corpus is None:
        found = _published(model, _text_name(windows), load_windows)
        if found is not None:
            check_ids(model.config, found, "text")
            require(
                found.shape[1] == model.config.context,
                "text: tokens of a window",
                found.shape[1],
                f"{model.config.context}, the model's context",
            )
            return found
    corpus = corpus or training_corpus(model, instead)
    check_corpus(model, corpus)
    return training_windows(corpus, windows, model.config.context)


def training_corpus(model: Model, instead: str = "") -> Corpus:
    """The text that the model was trained on, prepared. Raises InputError if it is unknown.

    instead: what would do as well, for that message.
    """
    if model.run is None or "data" not in model.run:
        raise InputError(
            f"data: the training text of {model.origin} is unknown; "
            f"valid: a model with its run's config{instead}"
        )
    return prepare(data_config(model.run["data"]), model.config.vocab_size)


def _published(model: Model, name: str, load: Callable[[Path, str], Any]) -> Any:
    """What `load` reads from the file beside the model, or None if it is not there or of another model."""
    path = user_path(model.origin, "model") / name
    if not path.exists():
        return None
    try:
        return load(path, model.fingerprint)
    except InputError as error:
        if model.run is None:
            raise
        finish_line()
        print(f"{error}; the training text is used instead", file=sys.stderr)
        return None


def check_corpus(model: Model, corpus: Corpus) -> None:
    """Raises InputError if `corpus` is not the text that the model was trained on."""
    if corpus.tokenizer.to_str() != model.require_tokenizer().to_str():
        raise InputError(
            f"data: the text of {model.origin} has changed since: it gives another tokenizer now; "
            "valid: the data that the model was trained on"
        )
    if model.run is not None and "data" in model.run:
        shuffled = bool(model.run["data"].get("shuffled"))
        require(corpus.shuffled == shuffled, "data.shuffled", corpus.shuffled, f"{shuffled}, as in training")


def publish_means(model: Model, directory: Path, programs: bool = False) -> None:
    """Writes the means over MEAN_WINDOWS windows next to the model in `directory`.

    With them, the model can be pruned without its training text. programs: take means over generated programs
    instead, for a model that was trained elsewhere.
    """
    if programs:
        windows = program_windows(model.require_tokenizer(), MEAN_WINDOWS, model.config.context)
        means: Arrays = node_means(model.config, model.params, windows)
    else:
        means = ablation_values(model, sites.NODE_SITES)
    require_finite(means)
    save_means(means, directory / _means_name(MEAN_WINDOWS), model.fingerprint)


def publish_text(model: Model, directory: Path) -> None:
    """Writes MEAN_WINDOWS windows of the training text next to the model in `directory`.

    With them, circuits can be judged on that text, and nodes explained, where it cannot be prepared: the
    standard library of another Python is another text.
    """
    save_windows(text_windows(model), directory / _text_name(MEAN_WINDOWS), model.fingerprint)


def copy_published(model: Model, directory: Path) -> None:
    """Copies the means and the text published beside `model`, and of its weights, into `directory`."""
    beside = user_path(model.origin, "model")
    for pattern, load in ((_means_name("*"), load_means), (_text_name("*"), load_windows)):
        for path in sorted(beside.glob(pattern)):
            try:
                load(path, model.fingerprint)
            except InputError:
                continue  # of something else
            write_whole(directory / path.name, path.read_bytes())


def program_windows(tokenizer: Tokenizer, count: int, context: int) -> np.ndarray:
    """Windows [count, context] of concatenated generated programs, encoded with `tokenizer`.

    Programs are separated by the end-of-text token, if the tokenizer has one.
    """
    tokens: list[int] = []
    for program in generated(0, count * context):  # no program is shorter than a token
        tokens += encode_texts(tokenizer, [program])[0] + end_of_text(tokenizer)
        if len(tokens) >= count * context:
            break
    return np.array(tokens[: count * context], np.int32).reshape(count, context)


def training_windows(corpus: Corpus, count: int, context: int) -> np.ndarray:
    """About `count` windows [W, T] of training text, from each source in proportion to its weight."""
    total = sum(corpus.weights.values())
    parts = []
    for name, source in corpus.sources.items():
        if corpus.weights[name] > 0:
            share = max(1, round(count * corpus.weights[name] / total))
            parts.append(validation_windows(source.train, share, context)[:, :-1])
    return np.concatenate(parts)


def has_means(directory: Path) -> bool:
    """Whether there are means in `directory` with which its model can be pruned."""
    return (directory / _means_name(MEAN_WINDOWS)).exists()


def _means_name(windows: int | str) -> str:
    return f"means_{windows}.npz"


def _text_name(windows: int | str) -> str:
    return f"text_{windows}.npz"
