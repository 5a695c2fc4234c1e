"""Which text a model is trained on: the sources, their weights, and how each is read."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sparse_jax.files import user_path
from sparse_jax.inputs import InputError, from_mapping, require, require_choice

# The fields that each kind of source uses, with their defaults; any other field must stay None.
KINDS: dict[str, dict[str, Any]] = {
    "simple_python": {"examples": 40_000, "seed": 0},
    "python_source": {"paths": (), "max_bytes": None},
    "text": {"paths": ()},
}


@dataclasses.dataclass(frozen=True)
class SourceConfig:
    """One component of the mixture; None stands for the kind's default. Checked by DataConfig.

    kind: `simple_python`: `examples` generated programs from `seed`. `python_source`: the `.py` files
    under the directories `paths` (none: the standard library of the running interpreter), at most
    `max_bytes` of them, picked by the hash of their names. `text`: the files `paths`, plain text or
    JSON lines (.jsonl, .ndjson, .json) with a "text" each, in UTF-8.
    weight: share of the training windows, relative to the other sources; 0: validation only.
    """

    kind: str
    weight: float = 1.0
    examples: int | None = None
    seed: int | None = None
    paths: tuple[str, ...] | None = None
    max_bytes: int | None = None


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The mixture and where its prepared form is kept.

    sources: name -> SourceConfig, kept in order of name, so that the order given changes nothing.
    directory: where `prepare` keeps data sets and corpora; several configs may share one.
    validation_fraction: share of each source's documents held out, by hash of their content.
    tokenizer_bytes: how much text the tokenizer is trained on, shared by weight.
    shuffled: the tokens of every document come in random order, those held out for validation too; ends of
    texts stay where they are. A model trained so is a control (METHOD 8): it has seen the same tokens, and
    nothing of what they mean together. The tokenizer is that of the text as it was.

    Raises InputError naming `data.<field>` or `data.sources.<name>.<field>`.
    """

    sources: dict[str, SourceConfig]
    directory: str = "runs/data"
    validation_fraction: float = 0.05
    tokenizer_bytes: int = 4_000_000
    shuffled: bool = False

    def __post_init__(self) -> None:
        require(len(self.sources) > 0, "data.sources", self.sources, "at least one source")
        require(
            0 < self.validation_fraction < 1,
            "data.validation_fraction",
            self.validation_fraction,
            "between 0 and 1, both excluded",
        )
        require(self.tokenizer_bytes >= 1, "data.tokenizer_bytes", self.tokenizer_bytes, "at least 1")
        checked = {name: _completed(name, source) for name, source in sorted(self.sources.items())}
        object.__setattr__(self, "sources", checked)
        weights = {name: source.weight for name, source in checked.items()}
        require(sum(weights.values()) > 0, "data.sources: weights", weights, "at least one above 0")

    @property
    def weights(self) -> dict[str, float]:
        """Each source's share of the training windows; they add up to 1."""
        total = sum(source.weight for source in self.sources.values())
        return {name: source.weight / total for name, source in self.sources.items()}


def data_config(mapping: Mapping[str, object]) -> DataConfig:
    """Builds a DataConfig from nested mappings: `{"sources": {name: {"kind": ...}}, ...}`.

    Raises InputError naming the field that is unknown, ill-typed, missing or impossible.
    """
    values = dict(mapping)
    sources = values.get("sources", {})
    if not isinstance(sources, Mapping):
        raise InputError(f"data.sources: {sources!r} is not valid; valid: a mapping from names to sources")
    for name, source in sources.items():
        if not isinstance(source, Mapping):
            raise InputError(f"data.sources.{name}: {source!r} is not valid; valid: a mapping with a kind")
    if "sources" in values:
        values["sources"] = {
            name: from_mapping(SourceConfig, source, f"data.sources.{name}")
            for name, source in sources.items()
        }
    return from_mapping(DataConfig, values, "data")


def sources_of(paths: Sequence[str]) -> dict[str, dict[str, object]]:
    """The sources for `paths` alone: directories of `.py` files as `code`, files as `text`, half of each."""
    code = tuple(path for path in paths if user_path(path, "paths").is_dir())
    text = tuple(path for path in paths if path not in code)
    sources = {"code": ("python_source", code), "text": ("text", text)}
    return {name: {"kind": kind, "paths": found} for name, (kind, found) in sources.items() if found}


def _completed(name: str, source: SourceConfig) -> SourceConfig:
    """`source` with its kind's defaults filled in; refuses what the kind does not use."""
    field = f"data.sources.{name}"
    require(re.fullmatch(r"[\w-]+", name) is not None, field, name, "letters, digits, _ and - in a name")
    require_choice(f"{field}.kind", source.kind, KINDS)
    weight = source.weight
    require(math.isfinite(weight) and weight >= 0, f"{field}.weight", weight, "a finite number from 0 up")
    used = KINDS[source.kind]
    given = {
        each.name: getattr(source, each.name)
        for each in dataclasses.fields(source)
        if each.name not in ("kind", "weight") and getattr(source, each.name) is not None
    }
    for key, value in given.items():
        if key not in used:
            raise InputError(
                f"{field}.{key}: {value!r} is given, but {source.kind} does not use it; "
                f"valid: {', '.join(used)}"
            )
    source = dataclasses.replace(source, **{**used, **given})
    for key, least in (("examples", 2), ("seed", 0), ("max_bytes", 1)):
        value = getattr(source, key)
        require(value is None or value >= least, f"{field}.{key}", value, f"at least {least}")
    paths = source.paths or ()
    require(all(isinstance(path, str) for path in paths), f"{field}.paths", paths, "strings")
    require(source.kind != "text" or len(paths) > 0, f"{field}.paths", paths, "at least one file")
    return source
