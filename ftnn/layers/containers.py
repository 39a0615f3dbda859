"""Containers: named tensors and metadata with a digest, as safetensors files or bytes."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load as deserialize
from safetensors.numpy import save as serialize

from .atomic import replacing

DESCRIPTION, _DIGEST = "ftnn", "sha256"
"""Names in the metadata: a description of the tensors, and a digest of everything."""


def write_tensors(
    path: str | os.PathLike, tensors: dict[str, np.ndarray], metadata: dict[str, str]
) -> None:
    """Write a safetensors file atomically, with a digest of its contents.

    A temporary file is written and flushed to the disk, then renamed, and the folder flushed. Its
    permissions follow the umask.
    """
    write_content(path, pack(tensors, metadata))


def write_content(path: str | os.PathLike, content: bytes) -> None:
    """Replace a file atomically, or raise a clear error."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"folder {path.parent} of {path.name} does not exist; create it")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the path of a file in it")
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def pack(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """Return the content of a safetensors file, with a digest."""
    tensors = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
    return serialize(tensors, metadata | {_DIGEST: _digest(tensors, metadata)})


def read_tensors(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read tensors and metadata of a safetensors file, or raise a clear error."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, or is not a file")
    try:
        with safe_open(path, framework="numpy") as file:
            names = file.keys()  # a handle is no mapping: it cannot be iterated over
            tensors = {name: file.get_tensor(name) for name in names}
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a readable safetensors file ({error}); it may be cut off: "
            "restore it or train again"
        ) from None
    return tensors, _check(metadata, tensors, path)


def unpack(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return tensors and metadata of a result of :func:`pack`, or raise a clear error."""
    try:
        tensors = deserialize(content)
        end = 8 + int.from_bytes(content[:8], "little")  # the length of the header comes first
        metadata = json.loads(content[8:end]).get("__metadata__", {})
    except (SafetensorError, TypeError, ValueError, KeyError) as error:
        raise ValueError(f"content is not in safetensors format ({error})") from None
    return tensors, _check(metadata, tensors, "content")


def _check(
    metadata: dict[str, str], tensors: dict[str, np.ndarray], what: str | os.PathLike
) -> dict[str, str]:
    """Return metadata without the digest, or raise unless it is that of the tensors."""
    digest = metadata.pop(_DIGEST, None)
    # a flipped bit in the name of the digest must not switch the comparison off
    known = digest is not None or metadata.keys() <= {DESCRIPTION}
    if not known or (digest is not None and digest != _digest(tensors, metadata)):
        raise ValueError(
            f"{what} is damaged: its contents differ from those that were written; restore it or "
            "train again"
        )
    return metadata


def _digest(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> str:
    total = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        total.update(f"{name} {array.dtype.name} {array.shape}".encode())
        total.update(array.data if array.size else b"")
    return total.hexdigest()
