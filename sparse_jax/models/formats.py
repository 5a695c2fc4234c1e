"""The table of model file formats: how to recognize, read and write each."""

import contextlib
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax

from sparse_jax.copies import on_this_machine
from sparse_jax.files import new_directory, user_path
from sparse_jax.inputs import InputError, require, require_choice
from sparse_jax.models.compact import is_compact, read_compact, write_compact
from sparse_jax.models.hugging_face import is_hugging_face, read_hugging_face, write_hugging_face
from sparse_jax.models.means import copy_published
from sparse_jax.models.model import Model
from sparse_jax.models.released import is_released, read_released, write_released
from sparse_jax.models.workdir import is_workdir, read_workdir


class Format(NamedTuple):
    """about: for messages. is_there: whether a directory has this format. write: fills a new directory.

    in_place: it is read in a bucket; a model in any other format is copied to this machine.
    """

    about: str
    is_there: Callable[[Path], bool]
    read: Callable[[Path], Model]
    write: Callable[[Model, Path], None] | None
    in_place: bool = False


def _write_dense(model: Model, directory: Path) -> None:
    write_compact(model, directory, dense=True)


# Formats are tried on a directory in this order.
FORMATS = {
    "openai": Format("a released model (beeg_config.json)", is_released, read_released, write_released),
    "hf": Format(
        "a Hugging Face model (config.json)", is_hugging_face, read_hugging_face, write_hugging_face
    ),
    "compact": Format("a compact model (weights.safetensors)", is_compact, read_compact, write_compact),
    "safetensors": Format("a compact model with all weights", is_compact, read_compact, _write_dense),
    "workdir": Format("the workdir of a training run", is_workdir, read_workdir, None, in_place=True),
}
WRITABLE = tuple(name for name, one in FORMATS.items() if one.write is not None)
# Those of this library: with the config of the run, and what a control is.
OWN = ("compact", "safetensors")


def load_model(directory: str | os.PathLike) -> Model:
    """The model in a directory, in any format of FORMATS.

    Raises InputError if the directory has no known format, or the model is damaged or not supported.

    >>> load_model("experiments/results/small/sparse").config.d_model
    256
    """
    directory = user_path(directory, "model")
    known = ", ".join(dict.fromkeys(one.about for one in FORMATS.values()))
    if not directory.exists():
        raise InputError(f"model: {directory}: does not exist; valid: {known}")
    for one in FORMATS.values():
        if one.is_there(directory):
            with contextlib.nullcontext(directory) if one.in_place else on_this_machine(directory) as place:
                model = one.read(place)
            origin = model.origin.replace(str(place), str(directory))
            origin = str(directory) if origin == "memory" else origin
            return dataclasses.replace(model, params=jax.device_put(model.params), origin=origin)
    raise InputError(f"model: {directory}: no model was found there; valid: {known}")


def save_model(model: Model, directory: str | os.PathLike, format: str = "compact") -> None:
    """Writes `model` to a new directory in the given format, a name in WRITABLE.

    Raises InputError if the directory exists (it is not changed), if the format is unknown, or if it cannot
    represent the model. A control can be written in a format of OWN alone, and so can a model that computes
    in bfloat16: no other says so. The formats of OWN also get the means that were published beside the model,
    with which its circuits are run.

    >>> import tempfile
    >>> model = load_model("experiments/results/small/sparse")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(model, f"{folder}/copy")
    ...     load_model(f"{folder}/copy").fingerprint == model.fingerprint
    True
    """
    require_choice("format", format, WRITABLE)
    valid = f"{' or '.join(OWN)} for a control; others do not say that the model is one"
    require(format in OWN or not model.is_control, "format", format, valid)
    if format not in OWN:
        dtype, valid = model.config.compute_dtype, f"'float32', or the format {' or '.join(OWN)}"
        require(dtype == "float32", "model.compute_dtype", dtype, valid)
    write = FORMATS[format].write
    assert write is not None  # by WRITABLE
    with new_directory(directory) as unfinished:
        write(model, unfinished)
        if format in OWN:
            copy_published(model, unfinished)
