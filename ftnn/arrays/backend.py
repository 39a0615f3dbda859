"""Backends of arrays: their names, dtypes and devices, checks and conversion."""

import importlib.util
from collections.abc import Iterable
from typing import Any

import numpy as np
from autoray import do, get_dtype_name, infer_backend

from .dispatch import dispatched

Array = Any
"""An array of any backend: numpy.ndarray, torch.Tensor, cupy.ndarray or jax.Array."""

BACKENDS = ("numpy", "torch", "cupy", "jax")
DTYPES = ("float32", "float64", "complex64", "complex128")

_EPS = {name: float(np.finfo(name).eps) for name in DTYPES}
_TINY = {name: float(np.finfo(name).tiny) for name in DTYPES}
_EXTRA = {"numpy": "dev", "torch": "torch", "cupy": "cuda", "jax": "jax"}


def eps(x: Array) -> float:
    """Return the machine epsilon of the real numbers behind the dtype of ``x``."""
    return _EPS[get_dtype_name(x)]


def tiny(x: Array) -> float:
    """Return the smallest normal number of the real numbers behind the dtype of ``x``."""
    return _TINY[get_dtype_name(x)]


def is_complex(x: Array) -> bool:
    """Return whether ``x`` has a complex dtype."""
    return "complex" in get_dtype_name(x)


def in_single(x: Array) -> bool:
    """Return whether ``x`` has a dtype of single precision."""
    return get_dtype_name(x) in ("float32", "complex64")


def real_name(x: Array) -> str:
    """Name of the real dtype of the precision of ``x``."""
    return "float32" if in_single(x) else "float64"


def in_double(x: Array) -> Array:
    """Return ``x`` in double precision."""
    return do("astype", x, "complex128" if is_complex(x) else "float64")


@dispatched
def widest(x: Array) -> Array:
    """Return ``x`` in double precision, if its backend supports it by default."""
    return in_double(x)


def as_dtype_of(x: Array, like: Array) -> Array:
    """Return ``x`` in the dtype of ``like``."""
    return do("astype", x, get_dtype_name(like))


def check_backend(backend: str) -> None:
    """Raise unless ``backend`` is a known name and its package is installed."""
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; choose one of {', '.join(BACKENDS)}")
    if importlib.util.find_spec(backend) is None:
        raise ValueError(
            f"backend {backend!r} is not installed; `pip install 'ftnn[{_EXTRA[backend]}]'`"
        )


def check_dtype(dtype: str) -> None:
    """Raise unless ``dtype`` is one of the four floating dtypes."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}; choose one of {', '.join(DTYPES)}")


def check_floating(x: Array, argument: str) -> None:
    """Raise ``TypeError`` unless ``x`` is an array of a floating dtype."""
    try:
        name = get_dtype_name(x)
    except (AttributeError, TypeError, KeyError):
        raise TypeError(f"{argument} must be an array, got {type(x).__name__}") from None
    if name not in DTYPES:
        raise TypeError(
            f"{argument} has dtype {name}, expected one of {', '.join(DTYPES)}; "
            "convert it first, e.g. array.astype('float32')"
        )


def check_alike(arrays: Iterable[Array], argument: str) -> None:
    """Raise ``ValueError`` unless all arrays live on one backend, in one dtype."""
    kinds = {f"{infer_backend(x)} {get_dtype_name(x)}" for x in arrays}
    if len(kinds) > 1:
        raise ValueError(
            f"{argument} mix {' and '.join(sorted(kinds))}; convert all to one backend and dtype"
        )


def check_finite(x: Array, argument: str) -> None:
    """Raise ``ValueError`` if ``x`` holds a NaN or an infinity."""
    if not bool(do("all", do("isfinite", x))):
        raise ValueError(f"{argument} holds NaN or infinite entries; clean or mask them first")


@dispatched
def to_numpy(x: Array) -> np.ndarray:
    """Copy ``x`` to host memory as a NumPy array, dropping any gradient graph."""
    return np.asarray(x)


def convert(x: Array, backend: str, dtype: str | None = None, device: Any = None) -> Array:
    """Return ``x`` on another backend, dtype and device, as a copy without a gradient graph.

    Parameters
    ----------
    x : array
        Array of any backend.
    backend : {"numpy", "torch", "cupy", "jax"}
        Target backend; must be installed.
    dtype : str, optional
        One of float32, float64, complex64, complex128. By default the dtype of ``x``.
    device : str, optional
        Device string of the target backend, e.g. "cuda". NumPy has only "cpu".
    """
    check_backend(backend)
    dtype = dtype or get_dtype_name(x)
    check_dtype(dtype)
    return _convert(x, backend, dtype, device)


@dispatched(key=lambda x, backend, dtype, device: backend)
def _convert(x: Array, backend: str, dtype: str, device: Any) -> Array:
    if device not in (None, "cpu"):
        raise ValueError(f"device is {device!r}, but the numpy backend has only 'cpu'")
    return host_array(x, dtype)


def host_array(x: Array, dtype: str) -> np.ndarray:
    """Return a NumPy array of this dtype; raise ``ValueError`` if imaginary parts would be lost."""
    x = to_numpy(x)
    if "complex" in get_dtype_name(x) and "complex" not in dtype:
        raise ValueError(f"cannot convert complex arrays to {dtype}; take .real first")
    return x.astype(dtype)


@dispatched
def device_of(x: Array) -> Any:
    """Return the device of ``x`` as expected by :func:`convert`, None where there is no choice."""
    return None


def as_like(x: np.ndarray, like: Array) -> Array:
    """Return the NumPy array ``x`` on the backend, dtype and device of ``like``."""
    return convert(x, infer_backend(like), get_dtype_name(like), device_of(like))


@dispatched(key=lambda x, like: like)
def as_index(x: np.ndarray, like: Array) -> Array:
    """Return the array of integers ``x`` on the backend and device of ``like``."""
    return do("asarray", x, like=infer_backend(like))


@dispatched(key=lambda place: place.partition("-")[0])
def synchronize(place: str) -> None:
    """Wait until the device of a place, such as "torch-cuda:1", has finished all queued work."""
