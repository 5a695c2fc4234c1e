"""The data sets: TFDS builders that write and read array_record, without TensorFlow."""

import abc
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tensorflow_datasets as tfds

from sparse_jax.data.documents import Document, Split, left_out
from sparse_jax.data.python_source import list_files, read_files
from sparse_jax.data.simple_python import programs
from sparse_jax.data.text import list_texts, read_texts
from sparse_jax.progress import Progress


class _LocalInfo(tfds.core.DatasetInfo):
    """Looks nothing up in the public bucket of ready-made data sets."""

    def initialize_from_bucket(self) -> None:
        """Nothing: it would look in the network for a data set that only exists here."""


class DocumentBuilder(tfds.core.GeneratorBasedBuilder):
    """Documents with their origins in two splits, in a fixed order, exact duplicates dropped.

    `download_and_prepare` downloads nothing. It raises InputError for a source that cannot be used, and
    leaves in `info.metadata` what was left out: `duplicates` (a number), `skipped` (reason -> origins).
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self, *, validation_fraction: float = 0.05, file_format: str = "array_record", **kwargs: Any
    ):
        self._validation_fraction = validation_fraction
        super().__init__(file_format=file_format, **kwargs)

    @abc.abstractmethod
    def documents(self, skipped: dict[str, list[str]]) -> Iterable[Document]:
        """All documents in their final order; notes in `skipped` what is left out."""

    def _info(self) -> tfds.core.DatasetInfo:
        return _LocalInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {"text": tfds.features.Text(), "origin": tfds.features.Text()}
            ),
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        skipped: dict[str, list[str]] = {}
        self.info.metadata["skipped"] = skipped
        split = Split(self.documents(skipped), self._validation_fraction)
        return {
            "train": self._generate_examples(split.train()),
            "validation": self._generate_examples(split.validation(), after=split),
        }

    def _generate_examples(
        self, documents: Iterable[Document], after: Split | None = None
    ) -> Iterator[tuple[int, dict[str, str]]]:
        if after is not None:  # TFDS writes one split after the other: the duplicates are known now
            self.info.metadata["duplicates"] = after.duplicates
        for key, document in enumerate(documents):
            yield key, document._asdict()


class SimplePython(DocumentBuilder):
    """Simple, repetitive, varied Python programs, generated."""

    def __init__(self, *, examples: int = 40_000, seed: int = 0, **kwargs: Any):
        self._examples, self._seed = examples, seed
        super().__init__(**kwargs)

    def documents(self, skipped: dict[str, list[str]]) -> Iterator[Document]:
        """The programs in order of their numbers."""
        progress = Progress(self.name, self._examples, "programs")
        for number, text in enumerate(programs(self._seed, self._examples)):
            yield Document(text, f"simple_python/{self._seed}/{number}")
            progress.update(number + 1)
        progress.close()


class PythonSource(DocumentBuilder):
    """Real Python source files, the standard library unless told otherwise."""

    def __init__(self, *, paths: Sequence[str] = (), max_bytes: int | None = None, **kwargs: Any):
        self._paths, self._max_bytes = paths, max_bytes
        super().__init__(**kwargs)

    def documents(self, skipped: dict[str, list[str]]) -> Iterator[Document]:
        """The files that decode and parse, in the order of their names' hashes."""
        files = list_files(self._paths, self._max_bytes, skipped)
        return _shown(read_files(files, skipped), self.name, sum(file.size for file in files), skipped)


class TextFiles(DocumentBuilder):
    """The user's own text, plain or in JSON lines."""

    def __init__(self, *, paths: Sequence[str], **kwargs: Any):
        self._paths = paths
        super().__init__(**kwargs)

    def documents(self, skipped: dict[str, list[str]]) -> Iterator[Document]:
        """The documents in the order of the files."""
        files = list_texts(self._paths)
        size = sum(file.stat().st_size for file in files)
        return _shown(read_texts(files, skipped), self.name, size, skipped)


def _shown(
    documents: Iterable[Document], label: str, size: int, skipped: dict[str, list[str]]
) -> Iterator[Document]:
    """`documents` with their progress through `size` bytes, some of which may turn out to be unusable."""
    progress, done, count = Progress(label, size, "bytes"), 0, 0
    for count, document in enumerate(documents, start=1):
        yield document
        done += len(document.text.encode())
        progress.update(done, documents=count, skipped=_total(skipped))
    progress.update(done, documents=count, skipped=_total(skipped))
    progress.close()
    if skipped:
        print(f"{label}: left out: {left_out(skipped)}", file=sys.stderr)


def _total(skipped: dict[str, list[str]]) -> int:
    return sum(map(len, skipped.values()))


BUILDERS = {"simple_python": SimplePython, "python_source": PythonSource, "text": TextFiles}
