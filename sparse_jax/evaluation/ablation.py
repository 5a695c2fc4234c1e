"""What the closed nodes of a model are held at: their means over its training text."""

from pathlib import Path

import numpy as np

from sparse_jax.data.corpus import Corpus, prepare
from sparse_jax.data.loader import validation_windows
from sparse_jax.inputs import InputError
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.gates import Gates
from sparse_jax.pruning.means import load_means, node_means, save_means
from sparse_jax.training.pretrained import Pretrained


def held_values(pretrained: Pretrained, prune: PruneConfig, corpus: Corpus | None = None) -> Gates:
    """By site, the means over `prune.mean_windows` windows of text; zeros if `prune.fill` is "zero".

    corpus: the prepared text of the model; without it, the means that a published model has beside it are
    read, or its text is prepared. Raises InputError if the text is not what the model was trained on.
    """
    published = Path(pretrained.origin) / _published_name(prune.mean_windows)
    if corpus is None and published.exists():
        means = load_means(published)
    else:
        corpus = corpus or prepare(pretrained.run.data, pretrained.config.vocab_size)
        check_corpus(pretrained, corpus)
        windows = training_windows(corpus, prune.mean_windows, pretrained.config.context)
        means = node_means(pretrained.config, pretrained.params, windows)
    return {site: 0 * mean for site, mean in means.items()} if prune.fill == "zero" else means


def check_corpus(pretrained: Pretrained, corpus: Corpus) -> None:
    """Raises InputError if `corpus` is not the text that the model was trained on."""
    if corpus.tokenizer.to_str() != pretrained.tokenizer.to_str():
        raise InputError(
            f"data: the text of {pretrained.origin} has changed since: its tokenizer is another now; "
            "valid: the data that the model was trained on"
        )


def publish_means(pretrained: Pretrained, directory: Path) -> None:
    """Writes the means over a PruneConfig's usual number of windows beside the model in `directory`.

    With them it can be pruned where its text is not, or not any more.
    """
    prune = PruneConfig()
    save_means(held_values(pretrained, prune), directory / _published_name(prune.mean_windows))


def training_windows(corpus: Corpus, count: int, context: int) -> np.ndarray:
    """About `count` windows [W, T] of training text, from each source in proportion to its weight."""
    total = sum(corpus.weights.values())
    parts = []
    for name, source in corpus.sources.items():
        if corpus.weights[name] > 0:
            share = max(1, round(count * corpus.weights[name] / total))
            parts.append(validation_windows(source.train, share, context)[:, :-1])
    return np.concatenate(parts)


def _published_name(windows: int) -> str:
    return f"means_{windows}.npz"
