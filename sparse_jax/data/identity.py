"""A short key of everything that prepared data depends on: same key, same data."""

import hashlib
import json
import platform
from pathlib import Path

from sparse_jax.data.config import DataConfig, SourceConfig
from sparse_jax.data.python_source import list_files
from sparse_jax.data.text import list_texts
from sparse_jax.inputs import InputError

# The code that decides what a data set holds: a change to it makes another data set.
_SPLIT = ("documents.py", "builders.py")
_CODE = {
    "simple_python": (*_SPLIT, "simple_python.py", "programs/*.py"),
    "python_source": (*_SPLIT, "python_source.py"),
    "text": (*_SPLIT, "text.py"),
}
_CORPUS_CODE = ("tokenizer.py", "encoding.py")
_SHUFFLED_CODE = ("shuffled.py",)


def dataset_key(name: str, source: SourceConfig, validation_fraction: float) -> str:
    """The key of a source's data set: its config, its files' names, sizes and times, the code.

    Raises InputError naming `data.sources.<name>` if the files are not there.
    """
    parts: list[object] = [source.kind, validation_fraction, _code(_CODE[source.kind])]
    try:
        if source.kind == "simple_python":
            parts += [source.seed, source.examples]
        elif source.kind == "python_source":  # what parses depends on the Python that runs
            parts += [platform.python_version(), list_files(source.paths or (), source.max_bytes, {})]
        else:
            states = [(str(path.resolve()), path.stat()) for path in list_texts(source.paths or ())]
            parts += [(path, state.st_size, state.st_mtime_ns) for path, state in states]
    except InputError as error:
        raise InputError(f"data.sources.{name}.{error}") from None
    return _key(parts)


def corpus_key(config: DataConfig, vocab_size: int, dataset_keys: dict[str, str]) -> str:
    """The key of the tokens: the mixture, the tokenizer's size and sample, the data sets, the code.

    If they are shuffled, also that, and the code that does it.
    """
    plain = _key([config.weights, config.tokenizer_bytes, vocab_size, dataset_keys, _code(_CORPUS_CODE)])
    return _key([plain, "shuffled", _code(_SHUFFLED_CODE)]) if config.shuffled else plain


def _code(patterns: tuple[str, ...]) -> list[str]:
    here = Path(__file__).parent
    files = sorted(file for pattern in patterns for file in here.glob(pattern))
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def _key(parts: list[object]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
