"""Checkpoints: a safetensors file of arrays and a JSON file of numbers; data only, no code.

``checkpoint.json`` names the tensor file and is replaced last, atomically: at that moment a
checkpoint takes effect. Tensor files carry the step and a digest of their contents in their names,
so no file is ever overwritten by another state, and those of earlier checkpoints are removed only
afterwards. A process killed at any moment leaves the last complete checkpoint.
"""

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..arrays.backend import to_numpy
from ..layers.atomic import clear_write_errors
from ..layers.containers import read_tensors, write_tensors
from .files import read_json, write_json

FORMAT = "ftnn-checkpoint-2"
JSON_NAME = "checkpoint.json"
REMEDY = "restore the run folder from a copy, or train again in a new one"


def has_checkpoint(run_dir: str | os.PathLike) -> bool:
    """Return whether the run folder holds a checkpoint."""
    return (Path(run_dir) / JSON_NAME).is_file()


def save_checkpoint(run_dir: str | os.PathLike, content: dict[str, Any], step: int) -> None:
    """Write a checkpoint, then remove the tensor files of earlier ones.

    Parameters
    ----------
    run_dir : path
        An existing folder.
    content : dict
        Tree of dicts, lists, tuples, numbers, strings, None, and torch tensors.
    step : int
        Global step, for the name of the tensor file.
    """
    run_dir = Path(run_dir)
    tensors: dict[str, np.ndarray] = {}
    packed = pack(content, tensors)
    digest = _digest(tensors)
    name = f"checkpoint-{step:08d}-{digest[:12]}.safetensors"
    write_tensors(run_dir / name, tensors, {"ftnn": json.dumps({"format": FORMAT, "step": step})})
    about = {"format": FORMAT, "tensors": name, "content": packed}
    write_json(run_dir / JSON_NAME, about | {"digest": digest_of(packed, digest)})
    _remove_others(run_dir, name)


def load_checkpoint(run_dir: str | os.PathLike) -> dict[str, Any]:
    """Read the checkpoint of a run folder without changing anything on disk.

    Returns
    -------
    dict
        The tree given to :func:`save_checkpoint`, with its tensors on the CPU.

    Raises
    ------
    ValueError
        If there is no checkpoint, or a file is truncated, missing, not a checkpoint, or not the one
        that was written.
    """
    path = Path(run_dir) / JSON_NAME
    if not path.is_file():
        raise ValueError(f"{path} does not exist: there is nothing to resume; train without resume")
    about = read_json(path, REMEDY)
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError(f"{path} is not a checkpoint of ftnn ({FORMAT}); {REMEDY}")
    name, digest = about.get("tensors"), about.get("digest")
    if not isinstance(name, str) or not name or Path(name).name != name:
        raise ValueError(f"{path} does not name its tensor file; {REMEDY}")
    try:
        tensors, _ = read_tensors(path.with_name(name))
    except FileNotFoundError:
        raise ValueError(f"{path.with_name(name)} is missing, named by {path}; {REMEDY}") from None
    if digest_of(about.get("content"), _digest(tensors)) != digest:
        raise ValueError(
            f"{path} and {path.with_name(name)} are not what was written together; {REMEDY}"
        )
    try:
        return unpack(about["content"], tensors)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{path} is incomplete ({error!r}); {REMEDY}") from None


def remove_leftovers(run_dir: str | os.PathLike) -> None:
    """Remove the tensor files that the checkpoint does not name, of a process that was killed."""
    name = read_json(Path(run_dir) / JSON_NAME, REMEDY)["tensors"]
    _remove_others(Path(run_dir), name)


def remove_checkpoint(run_dir: str | os.PathLike) -> None:
    """Remove the checkpoint of a run folder, if there is one."""
    (Path(run_dir) / JSON_NAME).unlink(missing_ok=True)
    for path in Path(run_dir).glob("checkpoint-*.safetensors"):
        path.unlink(missing_ok=True)


def pack(tree: Any, tensors: dict[str, np.ndarray], path: str = "") -> Any:
    """Return JSON types for a tree; move its tensors with at least one axis to ``tensors``.

    Types that JSON cannot represent are wrapped in an object with one key that starts with ``$``.

    Examples
    --------
    >>> tensors = {}
    >>> pack({"betas": (0.9, 0.99), "state": {0: torch.zeros(2)}}, tensors)
    {'betas': {'$tuple': [0.9, 0.99]}, 'state': {'$items': [[0, {'$tensor': '.state.0'}]]}}
    >>> tensors
    {'.state.0': array([0., 0.], dtype=float32)}
    """
    match tree:
        case torch.Tensor() if tree.ndim == 0:
            return {"$scalar": [pack(tree.item(), tensors), str(tree.dtype).removeprefix("torch.")]}
        case torch.Tensor():
            tensors[path] = to_numpy(tree)
            return {"$tensor": path}
        case None | bool() | int() | str():
            return tree
        case float():
            return tree if math.isfinite(tree) else {"$float": str(tree)}
        case list():
            return [pack(item, tensors, f"{path}.{n}") for n, item in enumerate(tree)]
        case tuple():
            return {"$tuple": pack(list(tree), tensors, path)}
        case dict() if all(isinstance(key, str) and not key.startswith("$") for key in tree):
            return {key: pack(value, tensors, f"{path}.{key}") for key, value in tree.items()}
        case dict() if all(isinstance(key, (int, str)) for key in tree):
            items = [[key, pack(value, tensors, f"{path}.{key}")] for key, value in tree.items()]
            return {"$items": items}
    kind = type(tree).__name__
    raise TypeError(f"{path.lstrip('.')} is a {kind}, which a checkpoint cannot hold")


def unpack(tree: Any, tensors: dict[str, np.ndarray]) -> Any:
    """Return the tree that was passed to :func:`pack`."""
    if isinstance(tree, list):
        return [unpack(item, tensors) for item in tree]
    if not isinstance(tree, dict):
        return tree
    match tree:
        case {"$tensor": name}:
            return torch.from_numpy(np.array(tensors[name])).clone()  # in memory that torch aligned
        case {"$scalar": [value, dtype]}:
            return torch.tensor(unpack(value, tensors), dtype=getattr(torch, dtype))
        case {"$float": text}:
            return float(text)
        case {"$tuple": items}:
            return tuple(unpack(items, tensors))
        case {"$items": items}:
            return {key: unpack(value, tensors) for key, value in items}
    return {key: unpack(value, tensors) for key, value in tree.items()}


def _remove_others(run_dir: Path, name: str) -> None:
    """Remove tensor files of other checkpoints, and what a killed process was writing."""
    for path in [*run_dir.glob("checkpoint-*.safetensors"), *run_dir.glob(".checkpoint*.part")]:
        if path.name != name:
            with clear_write_errors(path):
                path.unlink(missing_ok=True)


def digest_of(packed: Any, tensors: str) -> str:
    """Return the digest of a result of :func:`pack`, given that of its tensors."""
    return hashlib.sha256(f"{json.dumps(packed, sort_keys=True)}{tensors}".encode()).hexdigest()


def _digest(tensors: dict[str, np.ndarray]) -> str:
    sha = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        sha.update(f"{name} {array.dtype} {array.shape}\n".encode())
        sha.update(array.data.cast("B") if array.size else b"")
    return sha.hexdigest()
