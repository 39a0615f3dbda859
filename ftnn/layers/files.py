"""Saving and loading models: safetensors files that hold data only, written atomically."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialize

from .. import nonlinear
from ..arrays.backend import to_numpy
from ..encoding import Encoder
from .atomic import replacing
from .coarsen import Coarsen
from .layer import Layer
from .linear import Linear
from .readouts import Expectation, Readout
from .residual import Residual
from .sequential import Sequential

FORMAT = "ftnn-model-1"
_DIGEST = "sha256"
_LAYERS: dict[str, Callable[..., Layer]] = {
    **{cls.__name__: cls for cls in (Linear, Coarsen, Residual, Sequential, Readout, Expectation)},
    **{name: getattr(nonlinear, name) for name in nonlinear.__all__},
}


def save(model: Layer, path: str | os.PathLike, encoder: Encoder | None = None) -> None:
    """Save a model, and the encoder of its inputs if given, as one safetensors file.

    The file is written beside its place and moved there in one step: a crash leaves either the
    old file or the new one.

    Parameters
    ----------
    model : Layer
        On any backend; the arrays are saved from host memory in their dtype.
    path : path
        By custom ending in ``.safetensors``.
    encoder : Encoder, optional

    Examples
    --------
    >>> import ftnn, tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> ftnn.save(ftnn.Readout((2, 2), 3, bond_dim=2), path)
    >>> ftnn.load(path).num_params()
    16
    """
    if not isinstance(model, Layer):
        raise TypeError(f"model is a {type(model).__name__}, expected an ftnn.Layer")
    tensors = {f"model.{name}": to_numpy(a) for name, a in model.named_arrays().items()}
    about: dict[str, Any] = {"format": FORMAT, "model": describe(model)}
    if encoder is not None:
        tensors |= {f"encoder.{name}": a for name, a in encoder.buffers.items()}
        about["encoder"] = {"type": type(encoder).__name__, "config": encoder.config()}
    write_tensors(path, tensors, {"ftnn": json.dumps(about)})


def write_tensors(
    path: str | os.PathLike, tensors: dict[str, np.ndarray], metadata: dict[str, str]
) -> None:
    """Write a safetensors file atomically, with a digest of its contents.

    A temporary file is written and flushed to the disk, then renamed, and the folder flushed. It
    gets the permissions that the umask leaves.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to save {path.name} in; make it")
    tensors = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
    content = serialize(tensors, metadata | {_DIGEST: _digest(tensors, metadata)})
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def read_tensors(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read tensors and metadata of a safetensors file, or raise a clear error."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, or is no file")
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
    digest = metadata.pop(_DIGEST, None)
    if digest is not None and digest != _digest(tensors, metadata):
        raise ValueError(
            f"{path} is damaged: its contents are not those that were written; restore it or "
            "train again"
        )
    return tensors, metadata


def describe(model: Layer) -> dict[str, Any]:
    """Nested description of a model: type, constructor arguments, children."""
    return {
        "type": type(model).__name__,
        "config": model.config(),
        "children": {name: describe(child) for name, child in model.children.items()},
    }


def load(path: str | os.PathLike) -> Layer:
    """Load a model saved by :func:`save`, on NumPy, in the dtype it was saved in.

    Parameters
    ----------
    path : path

    Returns
    -------
    Layer

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is cut off, is not a model of ftnn, or does not fit its own description.
    """
    tensors, about = _read(path)
    try:
        model = build(about["model"])
        arrays = {k[len("model.") :]: v for k, v in tensors.items() if k.startswith("model.")}
        missing = model.named_arrays().keys() - arrays.keys()
        if missing:
            raise ValueError(f"array {min(missing)!r} is missing")
        model.set_arrays(arrays)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} does not hold a complete model: {error}") from None
    return model


def load_encoder(path: str | os.PathLike) -> Encoder | None:
    """Load the encoder saved with a model, or None if there is none."""
    tensors, about = _read(path)
    if about.get("encoder") is None:
        return None
    try:
        kind = Encoder.named(about["encoder"]["type"])
        encoder = kind(**about["encoder"]["config"])
        stored = {k[len("encoder.") :]: v for k, v in tensors.items() if k.startswith("encoder.")}
        encoder.set_buffers(stored)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not hold a complete encoder: {error}") from None
    return encoder


def build(description: dict[str, Any]) -> Layer:
    """Make a model, with fresh arrays, from what :func:`describe` returned."""
    kind = description["type"]
    if kind not in _LAYERS:
        raise ValueError(f"unknown layer type {kind!r}")
    children = [build(child) for child in description["children"].values()]
    return _LAYERS[kind](*children, **description["config"])


def _read(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    tensors, metadata = read_tensors(path)
    try:
        about = json.loads(metadata.get("ftnn", "null"))
    except json.JSONDecodeError:
        about = None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError(
            f"{path} is a safetensors file, but not a model saved by ftnn.save ({FORMAT})"
        )
    return tensors, about


def _digest(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> str:
    total = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        total.update(f"{name} {array.dtype.name} {array.shape}".encode())
        total.update(array.data if array.size else b"")
    return total.hexdigest()
