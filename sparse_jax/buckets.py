"""Objects in buckets of Google Cloud Storage, as paths: gs://BUCKET/NAME.

What differs from a disk: an object is written whole or not at all, and cannot be appended to. There are no
directories, only names with "/" in them, and nothing can be renamed in one step. An object cannot be locked,
but a write can ask for the generation (the version) that it replaces.
"""

import contextlib
import errno
import fnmatch
import functools
import io
import os
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Any, NamedTuple

from sparse_jax.inputs import InputError, first_line

SCHEME = "gs://"
# How long a bucket that does not answer is asked again, before any work; later the client's own limit holds.
FIRST_SECONDS = 20.0
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


class Object(NamedTuple):
    """An object as it is listed. content: a text that is another one if the bytes are others."""

    path: "BucketPath"
    size: int
    generation: int
    content: str


class Changed(OSError):
    """An object is not of the generation that a write asked for."""


class BucketPath:
    """A place in a bucket, with those methods of `pathlib.Path` that this library uses.

    Whatever goes wrong is an OSError with a `strerror`, as on a disk. An empty directory is not there.
    """

    def __init__(self, bucket: str, key: str):
        self.bucket, self.key = bucket, key

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}" + (f"/{self.key}" if self.key else "")

    # no __fspath__: the system would take it for a relative path, and make a folder `gs:`

    def __repr__(self) -> str:
        return f"BucketPath({str(self)!r})"

    def __truediv__(self, below: str | PurePosixPath) -> "BucketPath":
        return self._at(f"{self.key}/{below}" if self.key else str(below))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BucketPath) and str(self) == str(other)

    def __lt__(self, other: "BucketPath") -> bool:
        return str(self) < str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    @property
    def name(self) -> str:
        return PurePosixPath(self.key or self.bucket).name

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> "BucketPath":
        return self._at(self.key.rpartition("/")[0])

    def with_name(self, name: str) -> "BucketPath":
        return self.parent / name

    def absolute(self) -> "BucketPath":
        return self

    def resolve(self) -> "BucketPath":
        return self

    def relative_to(self, other: "BucketPath") -> PurePosixPath:
        return PurePosixPath(self.key).relative_to(other.key)

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        with self._told():
            return bool(self.key) and self._blob().exists()

    def is_dir(self) -> bool:
        with self._told():
            return not self.key or any(True for _ in self._list(max_results=1))

    def is_symlink(self) -> bool:
        return False

    def iterdir(self) -> Iterator["BucketPath"]:
        with self._told():
            found = self._list(delimiter="/")
            names = [blob.name for blob in found] + [prefix.rstrip("/") for prefix in found.prefixes]
        return iter(sorted(self._at(name) for name in names if not name.endswith("/")))

    def glob(self, pattern: str) -> Iterator["BucketPath"]:
        """Of what is directly in it."""
        assert "/" not in pattern
        return (path for path in self.iterdir() if fnmatch.fnmatchcase(path.name, pattern))

    def objects(self, recursive: bool) -> list[Object]:
        """The object itself, or what is in the directory, in order of names."""
        with self._told():
            own = self._client_bucket().get_blob(self.key) if self.key else None
            found = (
                [own] if own is not None else list(self._list(**({} if recursive else {"delimiter": "/"})))
            )
        return [
            Object(self._at(one.name), one.size, one.generation, one.md5_hash or f"{self}#{one.generation}")
            for one in found
            if not one.name.endswith("/")  # what the console makes for an empty folder
        ]

    def stat(self) -> os.stat_result:
        """Size, and as its time the generation, which no other content of the same name has."""
        with self._told():
            blob = self._client_bucket().get_blob(self.key)
        if blob is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        seconds = blob.generation / 1e6
        times = {"st_mtime_ns": blob.generation * 1000}
        return os.stat_result((0o100644, 0, 0, 1, 0, 0, blob.size, seconds, seconds, seconds), times)

    def read_bytes(self) -> bytes:
        return self.read_version()[0]

    def read_version(self) -> tuple[bytes, int]:
        """The content, and its generation."""
        with self._told():
            blob = self._blob()
            content = blob.download_as_bytes()
            return content, int(blob.generation)

    def read_text(self, encoding: str = "utf-8") -> str:
        with self.open("r", encoding=encoding) as file:
            return file.read()

    def open(self, mode: str = "r", encoding: str = "utf-8") -> IO[Any]:
        """To read, text (with line ends as on a disk) or bytes; the whole object is in memory."""
        assert mode in ("r", "rb")
        content = io.BytesIO(self.read_bytes())
        return content if mode == "rb" else io.TextIOWrapper(content, encoding=encoding)

    def download(self, place: str | os.PathLike, generation: int) -> None:
        """Copies this generation to a new file on this machine; its checksum is compared."""
        with self._told():
            self._blob(generation=generation).download_to_filename(os.fspath(place), timeout=(10, 300))

    def write_bytes(self, content: bytes, replaces: int | None = None) -> int:
        """Writes the object, whole or not at all, and returns its generation.

        replaces: the generation that it has to have (0: there is none), else Changed is raised. A write whose
        answer was lost is made again, and then is Changed by itself: look what is there.
        """
        with self._told():
            blob = self._blob()
            blob.upload_from_string(
                content,
                "application/octet-stream",
                if_generation_match=replaces,
                timeout=(10, 300),
                checksum="crc32c",
            )
            return int(blob.generation)

    def upload(self, place: str | os.PathLike, replaces: int | None = None) -> None:
        """Writes the object from a file on this machine, as `write_bytes` does."""
        with self._told():
            self._blob().upload_from_filename(
                os.fspath(place),
                "application/octet-stream",
                if_generation_match=replaces,
                timeout=(10, 300),
                checksum="crc32c",
            )

    def unlink(self, missing_ok: bool = False, replaces: int | None = None) -> None:
        """Deletes the object; `replaces` as for `write_bytes`."""
        with contextlib.suppress(FileNotFoundError) if missing_ok else contextlib.nullcontext(), self._told():
            self._blob().delete(if_generation_match=replaces)

    def copy_to(self, target: "BucketPath") -> None:
        """Copies the object within Cloud Storage."""
        with self._told():
            other, token = target._blob(), None
            while True:
                token, *_ = other.rewrite(self._blob(), token=token)
                if token is None:
                    return

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: there are no directories."""

    def _at(self, key: str) -> "BucketPath":
        return BucketPath(self.bucket, key)

    def _client_bucket(self) -> Any:
        return _client().bucket(self.bucket)

    def _blob(self, **options: Any) -> Any:
        return self._client_bucket().blob(self.key, **options)

    def _list(self, **options: Any) -> Any:
        prefix = f"{self.key}/" if self.key else ""
        return self._client_bucket().list_blobs(prefix=prefix, **options)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turns the client's errors into the system's."""
        from google.api_core import exceptions
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
        from requests.exceptions import RequestException

        try:
            yield
        except exceptions.NotFound as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self)) from error
        except exceptions.PreconditionFailed as error:
            raise Changed(errno.EEXIST, "is of another generation", str(self)) from error
        except (exceptions.Forbidden, exceptions.Unauthorized) as error:
            raise PermissionError(errno.EACCES, first_line(error), str(self)) from error
        except (
            exceptions.GoogleAPIError,
            GoogleAuthError,
            DataCorruption,
            InvalidResponse,
            RequestException,
        ) as error:
            raise OSError(errno.EIO, first_line(error), str(self)) from error


def bucket_path(text: str, field: str) -> BucketPath:
    """The place that `text` names.

    Raises InputError naming `field` for what is not gs://BUCKET/NAME, and for a bucket that cannot be used.
    """
    valid = f"{SCHEME}BUCKET/NAME"
    bucket, _, name = text.partition(":")[2].lstrip("/").partition("/")  # a Path keeps one slash only
    if _BUCKET.fullmatch(bucket) is None:
        raise InputError(f"{field}: {text!r} is not valid; valid: {valid}")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or any(character in name for character in "\r\n#*?[]"):
        raise InputError(f"{field}: {text!r}: a name with .., #, *, ?, [, ] or a line end; valid: {valid}")
    try:
        _ask(bucket)
    except InputError as error:
        raise InputError(f"{field}: {text}: {error}") from None
    return BucketPath(bucket, "/".join(parts))


@functools.cache
def _client() -> Any:
    """Google's client; one for all threads."""
    try:
        import fsspec
        import gcsfs  # noqa: F401 (Orbax reads and writes checkpoints through it)
        from google.cloud import storage
    except ImportError as error:
        raise InputError(f"{SCHEME} needs {error.name}; valid: pip install 'sparse_jax[gcs]'") from None
    from google.auth.exceptions import GoogleAuthError

    # it would not see what others write, tensorstore among them
    fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)
    try:
        return storage.Client()
    except (GoogleAuthError, OSError) as error:
        valid = "gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS (a service account)"
        raise InputError(f"no credentials ({first_line(error)}); valid: {valid}") from None


@functools.cache
def _ask(bucket: str) -> None:
    """Raises InputError if a bucket cannot be used; asks once for one that can."""
    client = _client()
    from google.api_core import exceptions
    from google.cloud.storage.retry import DEFAULT_RETRY

    try:
        client.get_bucket(bucket, timeout=FIRST_SECONDS, retry=DEFAULT_RETRY.with_timeout(FIRST_SECONDS))
    except exceptions.NotFound:
        raise InputError(f"the bucket {bucket!r} does not exist; valid: an existing bucket") from None
    except (exceptions.Forbidden, exceptions.Unauthorized) as error:
        valid = "the roles Storage Object User and Storage Bucket Viewer"
        raise InputError(f"no permission ({first_line(error)}); valid: {valid}") from None
    except Exception as error:  # the client passes on those of a dozen libraries
        valid = "a network and credentials with which it can"
        raise InputError(f"cannot be reached ({first_line(error)}); valid: {valid}") from None
