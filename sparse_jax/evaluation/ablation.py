"""What the closed nodes of a model are held at: their means over its training text."""

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from sparse_jax.data.corpus import Corpus, prepare
from sparse_jax.data.loader import validation_windows
from sparse_jax.data.simple_python import programs as generated
from sparse_jax.data.tokenizer import END_OF_TEXT
from sparse_jax.inputs import InputError
from sparse_jax.model import sites
from sparse_jax.pruning.config import PruneConfig
from sparse_jax.pruning.gates import Gates
from sparse_jax.pruning.means import load_means, node_means, save_means
from sparse_jax.training.pretrained import Pretrained


def held_values(pretrained: Pretrained, prune: PruneConfig, corpus: Corpus | None = None) -> Gates:
    """By site of `prune.held_sites`, means over `prune.mean_windows` windows; zeros if its `fill` is "zero".

    corpus: the prepared text of the model; without it, the means that a published model has beside it are
    read, or its text is prepared if they are not there, or not those of all sites. Raises InputError if the
    text is not what the model was trained on.
    """
    published = Path(pretrained.origin) / _published_name(prune.mean_windows)
    means = load_means(published) if corpus is None and published.exists() else {}
    if not means.keys() >= set(prune.held_sites):
        corpus = corpus or prepare(pretrained.run.data, pretrained.config.vocab_size)
        check_corpus(pretrained, corpus)
        windows = training_windows(corpus, prune.mean_windows, pretrained.config.context)
        means = node_means(pretrained.config, pretrained.params, windows)
    held = {site: means[site] for site in prune.held_sites}
    return {site: 0 * mean for site, mean in held.items()} if prune.fill == "zero" else held


def check_corpus(pretrained: Pretrained, corpus: Corpus) -> None:
    """Raises InputError if `corpus` is not the text that the model was trained on."""
    if corpus.tokenizer.to_str() != pretrained.tokenizer.to_str():
        raise InputError(
            f"data: the text of {pretrained.origin} has changed since: its tokenizer is another now; "
            "valid: the data that the model was trained on"
        )


def publish_means(pretrained: Pretrained, directory: Path, programs: bool = False) -> None:
    """Writes the means over a PruneConfig's usual number of windows beside the model in `directory`.

    With them it can be pruned where its text is not, or not any more. programs: over generated programs
    instead, for a model that was made elsewhere.
    """
    prune = PruneConfig(sites=sites.NODE_SITES)
    if programs:
        windows = program_windows(pretrained.tokenizer, prune.mean_windows, pretrained.config.context)
        means = node_means(pretrained.config, pretrained.params, windows)
    else:
        means = held_values(pretrained, prune)
    save_means(means, directory / _published_name(prune.mean_windows))


def program_windows(tokenizer: Tokenizer, count: int, context: int) -> np.ndarray:
    """Windows [count, context] of generated programs, one after the other, in the tokens of any tokenizer.

    Between programs stands the token of the end of a text, if the tokenizer has it.
    """
    end = [] if tokenizer.token_to_id(END_OF_TEXT) is None else [tokenizer.token_to_id(END_OF_TEXT)]
    tokens: list[int] = []
    for program in generated(0, count * context):  # no program is shorter than a token
        tokens += tokenizer.encode(program).ids + end
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


def _published_name(windows: int) -> str:
    return f"means_{windows}.npz"
