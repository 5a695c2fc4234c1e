"""Builds a corpus: data sets, then a tokenizer from a sample of the mixture, then every token."""

import contextlib
import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import tensorflow_datasets as tfds
from tokenizers import Tokenizer

from sparse_jax.data.builders import BUILDERS, DocumentBuilder
from sparse_jax.data.config import KINDS, DataConfig, SourceConfig
from sparse_jax.data.storage import new_folder
from sparse_jax.data.token_file import TokenWriter
from sparse_jax.data.tokenizer import encode_documents, save_tokenizer, train_tokenizer
from sparse_jax.inputs import InputError
from sparse_jax.progress import Progress

SPLITS = ("train", "validation")
_READ_AT_ONCE = 512


def build_corpus(config: DataConfig, vocab_size: int, datasets: Mapping[str, Path], folder: Path) -> None:
    """Fills `folder` with tokenizer.json, corpus.json and <source>.<split>.npy.

    datasets: source name -> the folder where its TFDS data set is, or is to be built.
    Raises InputError naming `data.sources.<name>` for a source that cannot be used.
    """
    builders = {
        name: _dataset(name, source, config.validation_fraction, datasets[name])
        for name, source in config.sources.items()
    }
    tokenizer = _tokenizer(builders, config, vocab_size)
    save_tokenizer(tokenizer, folder / "tokenizer.json")
    reports, contents = {}, [tokenizer.to_str()]
    for name, builder in builders.items():
        reports[name] = {"documents": {}, "tokens": {}, **builder.info.metadata}
        for split in SPLITS:
            with TokenWriter(folder / f"{name}.{split}.npy", vocab_size) as tokens:
                _encode(tokenizer, builder, split, tokens, f"{name}/{split}")
            reports[name]["documents"][split] = builder.info.splits[split].num_examples
            reports[name]["tokens"][split] = tokens.count
            contents.append(f"{name} {split} {tokens.digest}")
    fingerprint = hashlib.sha256("\n".join(contents).encode()).hexdigest()[:16]
    summary = {"fingerprint": fingerprint, "weights": config.weights, "reports": reports}
    (folder / "corpus.json").write_text(json.dumps(summary, indent=1, allow_nan=False), encoding="utf-8")


def _dataset(name: str, source: SourceConfig, validation_fraction: float, folder: Path) -> DocumentBuilder:
    """The source's data set, ready to be read; built unless another corpus has already built it."""

    def builder(root: Path) -> DocumentBuilder:
        options = {key: getattr(source, key) for key in KINDS[source.kind]}
        make = BUILDERS[source.kind]
        return make(data_dir=root, validation_fraction=validation_fraction, **options)

    if not folder.exists():
        tfds.disable_progress_bar()
        try:
            # TFDS prints what it "downloads" to stdout; our own progress goes to stderr.
            with new_folder(folder) as unfinished, contextlib.redirect_stdout(io.StringIO()):
                builder(unfinished).download_and_prepare(
                    download_config=tfds.download.DownloadConfig(try_download_gcs=False)
                )
        except InputError as error:
            raise InputError(f"data.sources.{name}.{error}") from None
    return builder(folder)


def _tokenizer(builders: Mapping[str, DocumentBuilder], config: DataConfig, vocab_size: int) -> Tokenizer:
    """Trained on documents spread evenly over each source's train split, as many as its weight allows."""
    chosen = {}
    for name, builder in builders.items():
        split = builder.info.splits["train"]
        share = config.weights[name] * config.tokenizer_bytes / split.num_bytes
        count = min(split.num_examples, math.ceil(split.num_examples * share))
        chosen[name] = [i * split.num_examples // count for i in range(count)]
    progress = Progress("tokenizer", sum(map(len, chosen.values())), "documents")

    def sample() -> Iterator[str]:
        done = 0
        for name, numbers in chosen.items():
            for text in _texts(builders[name], "train", numbers):
                yield text
                done += 1
                progress.update(done)

    tokenizer = train_tokenizer(sample(), vocab_size)
    progress.close()
    return tokenizer


def _encode(
    tokenizer: Tokenizer, builder: DocumentBuilder, split: str, tokens: TokenWriter, label: str
) -> None:
    count = builder.info.splits[split].num_examples
    progress = Progress(f"encode {label}", count, "documents")
    texts = _texts(builder, split, range(count))
    for done, document in enumerate(encode_documents(tokenizer, texts), start=1):
        tokens.write(document)
        progress.update(done, tokens=tokens.count)
    progress.close()


def _texts(builder: DocumentBuilder, split: str, numbers: Sequence[int]) -> Iterator[str]:
    rows = builder.as_data_source(split)
    for start in range(0, len(numbers), _READ_AT_ONCE):
        for row in rows.__getitems__(numbers[start : start + _READ_AT_ONCE]):
            yield row["text"].decode()
