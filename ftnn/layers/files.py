"""Save and load models: safetensors files that hold data only, written atomically.

Files are not trusted. Nothing in them is executed or imported; the description is compared with the
stored arrays before anything of that size is allocated; arrays must have one floating dtype and be
finite.
"""

import json
import os
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays.backend import DTYPES, to_numpy
from .containers import DESCRIPTION, pack, read_tensors, unpack, write_content
from .layer import Layer
from .registry import Shapes, class_of, expecting, name_of
from .signature import construct

if TYPE_CHECKING:
    from ..encoding import Encoder

FORMAT = "ftnn-model-1"
_DEEPEST = 32
"""Deepest nesting of layers that a file may describe."""


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
    write_content(path, dumps(model, encoder))


def dumps(model: Layer, encoder: "Encoder | None" = None) -> bytes:
    """Return the content of the file that :func:`save` writes.

    Parameters
    ----------
    model : Layer
    encoder : Encoder, optional

    Returns
    -------
    bytes

    Raises
    ------
    TypeError, ValueError
        As :func:`save`.
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
    return pack(tensors, {DESCRIPTION: json.dumps(about)})


def describe(model: Layer) -> dict[str, Any]:
    """Return a nested description: type, constructor arguments, children, what is frozen."""
    about = {
        "type": name_of(model),
        "config": model.config(),
        "children": {name: describe(child) for name, child in model.children.items()},
    }
    return about | ({"frozen": sorted(model.frozen)} if model.frozen else {})


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
    return _model(*_described(*read_tensors(path), path), path)


def loads(content: bytes) -> "tuple[Layer, Encoder | None]":
    """Return the model and the encoder, None if there is none, of a result of :func:`dumps`.

    Parameters
    ----------
    content : bytes
        Not trusted: checked like a file by :func:`load`.

    Raises
    ------
    ValueError
        As :func:`load`.

    Examples
    --------
    >>> import ftnn
    >>> model, encoder = loads(dumps(ftnn.Readout((2, 2), 3, bond_dim=2)))
    >>> model.num_params(), encoder
    (16, None)
    """
    tensors, about = _described(*unpack(content), "content")
    return _model(tensors, about, "content"), _encoder(tensors, about, "content")


def _model(tensors: dict[str, np.ndarray], about: dict[str, Any], what: str | os.PathLike) -> Layer:
    arrays = {k[len("model.") :]: v for k, v in tensors.items() if k.startswith("model.")}
    try:
        _check_arrays(arrays, "its arrays cannot be used")
        model = rebuild(about["model"], {name: array.shape for name, array in arrays.items()})
        missing = model.named_arrays().keys() - arrays.keys()
        if missing:
            raise ValueError(f"array {min(missing)!r} is missing")
        model.set_arrays(arrays)
    except KeyError as error:
        raise ValueError(f"{what} does not hold a complete model: {error} is missing") from None
    except _BROKEN as error:
        raise ValueError(f"{what} does not hold a complete model: {error}") from None
    return model


def load_encoder(path: str | os.PathLike) -> "Encoder | None":
    """Load the encoder saved with a model, or None if there is none."""
    return _encoder(*_described(*read_tensors(path), path), path)


def _encoder(
    tensors: dict[str, np.ndarray], about: dict[str, Any], what: str | os.PathLike
) -> "Encoder | None":
    if about.get("encoder") is None:
        return None
    arrays = {k[len("encoder.") :]: v for k, v in tensors.items() if k.startswith("encoder.")}
    try:
        config = about["encoder"]["config"]
        _check_encoder(config, arrays)
        encoder = _encoder_class(about["encoder"]["type"])(**config)
        encoder.set_buffers(arrays)
    except KeyError as error:
        raise ValueError(f"{what} does not hold a complete encoder: {error} is missing") from None
    except _BROKEN as error:
        raise ValueError(f"{what} does not hold a complete encoder: {error}") from None
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
        layer = construct(cls, layers, dict(config))
    else:
        with expecting(cls, own):
            layer = construct(cls, layers, dict(config))
    frozen = _expect(description.get("frozen", []), list, "frozen")
    unknown = [name for name in frozen if name not in layer.params]
    if unknown:
        raise ValueError(f"{cls.__name__} has no array {unknown[0]!r}, which is said to be frozen")
    if frozen:
        layer.frozen = frozenset(frozen)
    return layer


def _expect(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{name} is a {type(value).__name__}, expected an object")
    return value


def _described(
    tensors: dict[str, np.ndarray], metadata: dict[str, str], what: str | os.PathLike
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the tensors and the description of a model, or raise if there is none."""
    try:
        about = json.loads(metadata.get(DESCRIPTION, "null"))
    except (json.JSONDecodeError, RecursionError):
        about = None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError(
            f"{what} is a safetensors file, but not a model saved by ftnn.save ({FORMAT})"
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
