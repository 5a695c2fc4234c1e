"""A compact circuit on disk: its nonzero numbers in a safetensors file, its structure in a JSON file."""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

from sparse_jax.circuits.compact_circuit import (
    AttentionPart,
    CompactCircuit,
    Computes,
    Levels,
    MlpPart,
    Reads,
)
from sparse_jax.circuits.graph import Circuit
from sparse_jax.files import read_json_object, user_path, write_whole
from sparse_jax.inputs import InputError, from_mapping
from sparse_jax.model.config import ModelConfig
from sparse_jax.models.compact import pack_weights, unpacked
from sparse_jax.models.leaves import Source
from sparse_jax.models.safetensors_file import read_safetensors
from sparse_jax.trees import fingerprint, named_leaves

FORMAT, VERSION = "sparse_jax.compact_circuit", 1
NUMBERS, STRUCTURE = "circuit.safetensors", "circuit.json"
_PARTS = {part.__name__: part for part in (AttentionPart, CompactCircuit, Computes, Levels, MlpPart, Reads)}


def write_compact_circuit(circuit: CompactCircuit, directory: str | os.PathLike) -> None:
    """Writes what `load_compact` restores exactly; each file is written atomically.

    If it is stopped between the two files of a directory that had others, `load_compact` refuses them.
    """
    directory = user_path(directory)
    about = {"format": FORMAT, "version": VERSION, "circuit": _described(circuit)}
    numbers = pack_weights(named_leaves(circuit), about={"structure": _hash(about)})
    write_whole(directory / NUMBERS, numbers)
    write_whole(directory / STRUCTURE, json.dumps(about, indent=1, allow_nan=False))


def _hash(about: Mapping[str, Any]) -> str:
    return fingerprint(json.dumps(about, sort_keys=True))


def _described(value: Any) -> Any:
    """A part as JSON: numbers as the shapes of their arrays, structure as it is."""
    if isinstance(value, ModelConfig):
        return dataclasses.asdict(value)
    if dataclasses.is_dataclass(value):
        fields = {field.name: _described(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"part": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {name: _described(one) for name, one in value.items()}
    if isinstance(value, tuple):
        return [_described(one) for one in value]
    return {"shape": list(value.shape)} if hasattr(value, "shape") else value


def load_compact(directory: str | os.PathLike, of: Circuit | None = None) -> CompactCircuit:
    """The compact circuit that `CompactCircuit.save` wrote into `directory`.

    of: the circuit that it has to be of. Raises InputError for a missing, damaged or foreign file, and for
    one that was made from another circuit, or from this one before it changed.

    >>> import tempfile
    >>> import sparse_jax as sj
    >>> model = sj.load("experiments/results/small/sparse")
    >>> path = "experiments/results/faithfulness/circuits/sparse/mean/single_double_quote.json"
    >>> circuit = sj.load_circuit(path, model)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     circuit.compact(model, outputs=["')\\n", '")\\n']).save(folder)
    ...     load_compact(folder, of=circuit)
    CompactCircuit(17 nodes, logits of 2 tokens)
    """
    directory = user_path(directory)
    path, about = directory / STRUCTURE, read_json_object(directory / STRUCTURE)
    if about.get("format") != FORMAT or about.get("version") != VERSION:
        found = f"{about.get('format')!r}, version {about.get('version')!r}"
        raise InputError(f"{path}: format {found}; valid: {FORMAT!r}, version {VERSION}")
    found_tensors, metadata = read_safetensors(directory / NUMBERS)
    tensors: dict[str, Source] = {**found_tensors}
    try:
        circuit = _restored(about["circuit"], "", tensors, str(directory / NUMBERS))
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: damaged ({error!r}); valid: what CompactCircuit.save wrote") from None
    if not isinstance(circuit, CompactCircuit):
        raise InputError(f"{path}: a part of a circuit; valid: what CompactCircuit.save wrote")
    if metadata.get("structure") != _hash(about):
        raise InputError(
            f"{directory / NUMBERS}: of another {STRUCTURE}; valid: both from one CompactCircuit.save"
        )
    if of is not None and circuit.circuit != of.fingerprint:
        raise InputError(
            f"{path}: stale, made from circuit {circuit.circuit}; valid: made from {of.fingerprint}, "
            f"{of!r}, with compact and save"
        )
    if tensors:
        raise InputError(f"{directory / NUMBERS} contains {min(tensors)}, which {STRUCTURE} does not have")
    return circuit


def _restored(value: Any, name: str, tensors: dict[str, Source], origin: str) -> Any:
    """The inverse of `_described`; `name` is that of the value in the tree."""
    if isinstance(value, list):
        return tuple(_restored(one, _within(name, i), tensors, origin) for i, one in enumerate(value))
    if not isinstance(value, dict):
        return value
    if "shape" in value:
        return unpacked(tensors, name, tuple(value["shape"]), origin)
    if "part" not in value:
        return {key: _restored(one, _within(name, key), tensors, origin) for key, one in value.items()}
    fields = {key: one for key, one in value.items() if key not in ("part", "config")}
    found = {key: _restored(one, _within(name, key), tensors, origin) for key, one in fields.items()}
    if "config" in value:
        found["config"] = from_mapping(ModelConfig, value["config"], "model")
    return _PARTS[value["part"]](**found)


def _within(name: str, key: str | int) -> str:
    return f"{name}/{key}" if name else str(key)
