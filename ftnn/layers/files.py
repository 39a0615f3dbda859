"""Save and load models: safetensors files that hold data only, written atomically.

Files are not trusted. Nothing in them is executed or imported; the description is compared with the
stored arrays before anything of that size is allocated; arrays must have one floating dtype and be
finite.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialize

from ..arrays.backend import DTYPES, to_numpy
from .atomic import replacing
from .layer import Layer
from .registry import Shapes, class_of, expecting, name_of
from .signature import construct

if TYPE_CHECKING:
    from ..encoding import Encoder

FORMAT = "ftnn-model-1"
_DEEPEST = 32
"""Deepest nesting of layers that a file may describe."""

_ABOUT, _DIGEST = "ftnn", "sha256"
"""Names in the metadata: a description of the tensors, and a digest of everything."""

_BROKEN = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Raised by constructors that are called with what a damaged file says."""


def save(model: Layer, path: str | os.PathLike, encoder: "Encoder | None" = None) -> None:
    """Save a model, and the encoder of its inputs if given, as one safetensors file.

    The file is replaced atomically: a crash leaves either the old file or the new one.

    Parameters
    ----------
    model : Layer
        On any backend; the arrays are saved from host memory in their dtype. User-defined layers
        are saved as well; their classes must be defined before the file is loaded.
    path : path
        Usually ending in ``.safetensors``.
    encoder : Encoder, optional

    Raises
    ------
    TypeError, ValueError
        If the file could not be loaded again: an argument is a callable, the name of a class is
        registered for another one, or arrays mix dtypes or hold NaN. Nothing is written then.

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
    about: dict[str, Any] = {"format": FORMAT, "model": describe(model)}
    arrays = {name: to_numpy(array) for name, array in model.named_arrays().items()}
    _check_arrays(arrays, "the model cannot be saved")
    tensors = {f"model.{name}": array for name, array in arrays.items()}
    if encoder is not None:
        tensors |= {f"encoder.{name}": a for name, a in encoder.buffers.items()}
        about["encoder"] = {"type": type(encoder).__name__, "config": encoder.config()}
    write_tensors(path, tensors, {_ABOUT: json.dumps(about)})


def write_tensors(
    path: str | os.PathLike, tensors: dict[str, np.ndarray], metadata: dict[str, str]
) -> None:
    """Write a safetensors file atomically, with a digest of its contents.

    A temporary file is written and flushed to the disk, then renamed, and the folder flushed. Its
    permissions follow the umask.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"folder {path.parent} of {path.name} does not exist; create it")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the path of a file in it")
    tensors = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
    content = serialize(tensors, metadata | {_DIGEST: _digest(tensors, metadata)})
    with replacing(path) as temporary:
        temporary.write_bytes(content)


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
    digest = metadata.pop(_DIGEST, None)
    # a flipped bit in the name of the digest must not switch the comparison off
    known = digest is not None or metadata.keys() <= {_ABOUT}
    if not known or (digest is not None and digest != _digest(tensors, metadata)):
        raise ValueError(
            f"{path} is damaged: its contents differ from those that were written; restore it or "
            "train again"
        )
    return tensors, metadata


def describe(model: Layer) -> dict[str, Any]:
    """Return a nested description of a model: type, constructor arguments, children."""
    return {
        "type": name_of(model),
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
        If the file is truncated or damaged, is not an ftnn model, does not match its own
        description, holds NaN, or has a layer whose class is not defined.
    """
    tensors, about = _read(path)
    arrays = {k[len("model.") :]: v for k, v in tensors.items() if k.startswith("model.")}
    try:
        _check_arrays(arrays, "its arrays cannot be used")
        model = rebuild(about["model"], {name: array.shape for name, array in arrays.items()})
        missing = model.named_arrays().keys() - arrays.keys()
        if missing:
            raise ValueError(f"array {min(missing)!r} is missing")
        model.set_arrays(arrays)
    except KeyError as error:
        raise ValueError(f"{path} does not hold a complete model: {error} is missing") from None
    except _BROKEN as error:
        raise ValueError(f"{path} does not hold a complete model: {error}") from None
    return model


def load_encoder(path: str | os.PathLike) -> "Encoder | None":
    """Load the encoder saved with a model, or None if there is none."""
    tensors, about = _read(path)
    if about.get("encoder") is None:
        return None
    arrays = {k[len("encoder.") :]: v for k, v in tensors.items() if k.startswith("encoder.")}
    try:
        config = about["encoder"]["config"]
        _check_encoder(config, arrays)
        encoder = _encoder_class(about["encoder"]["type"])(**config)
        encoder.set_buffers(arrays)
    except KeyError as error:
        raise ValueError(f"{path} does not hold a complete encoder: {error} is missing") from None
    except _BROKEN as error:
        raise ValueError(f"{path} does not hold a complete encoder: {error}") from None
    return encoder


def rebuild(description: Mapping[str, Any], shapes: Shapes | None = None, depth: int = 0) -> Layer:
    """Make a model, with new arrays, from the result of :func:`describe`.

    Parameters
    ----------
    description : mapping
    shapes : dict of str to tuple of int, optional
        Shapes of the arrays of the model, by dotted name: a layer that needs others raises an error
        before it allocates them.
    depth : int
        Nesting depth within the model.
    """
    if depth > _DEEPEST:
        raise ValueError(f"layers are nested more than {_DEEPEST} deep")
    _expect(description, Mapping, "the description of a layer")
    children = _expect(description["children"], Mapping, "children")
    config = _expect(description["config"], Mapping, "config")
    cls = class_of(description["type"])
    own: Shapes = {}
    inside: dict[str, Shapes] = {name: {} for name in children}
    for name, shape in (shapes or {}).items():
        first, _, rest = name.partition(".")
        if rest and first in inside:
            inside[first][rest] = shape
        else:
            own[name] = shape
    layers = {
        name: rebuild(child, None if shapes is None else inside[name], depth + 1)
        for name, child in children.items()
    }
    if shapes is None:
        return construct(cls, layers, dict(config))
    with expecting(cls, own):
        return construct(cls, layers, dict(config))


def _expect(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{name} is a {type(value).__name__}, expected an object")
    return value


def _read(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    tensors, metadata = read_tensors(path)
    try:
        about = json.loads(metadata.get(_ABOUT, "null"))
    except (json.JSONDecodeError, RecursionError):
        about = None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError(
            f"{path} is a safetensors file, but not a model saved by ftnn.save ({FORMAT})"
        )
    return tensors, about


def _check_arrays(arrays: dict[str, np.ndarray], words: str) -> None:
    """Raise ``ValueError`` unless all arrays have one floating dtype and are finite."""
    dtypes = sorted({array.dtype.name for array in arrays.values()})
    if len(dtypes) > 1 or not set(dtypes) <= set(DTYPES):
        raise ValueError(
            f"{words}: they are {' and '.join(dtypes)}, expected a single one of "
            f"{', '.join(DTYPES)}"
        )
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{words}: {name!r} holds NaN or infinite entries")


def _check_encoder(config: Mapping[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Raise ``ValueError`` for arrays that are not finite or do not match the image shape."""
    for name, array in arrays.items():
        if np.issubdtype(array.dtype, np.inexact) and not np.isfinite(array).all():
            raise ValueError(f"encoder.{name} holds NaN or infinite entries")
    if "image_shape" in config and list(config["image_shape"]) != list(arrays["mean"].shape):
        raise ValueError(
            f"encoder.mean has shape {arrays['mean'].shape}, expected {config['image_shape']}"
        )


def _encoder_class(name: str) -> type["Encoder"]:
    """Return a class by its name; encoders are imported here to avoid a circular import."""
    return import_module(f"{__package__.partition('.')[0]}.encoding").Encoder.named(name)


def _digest(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> str:
    total = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        total.update(f"{name} {array.dtype.name} {array.shape}".encode())
        total.update(array.data if array.size else b"")
    return total.hexdigest()
