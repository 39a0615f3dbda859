"""Placement of arrays: chains on another backend, and numbers on the backend of a chain."""

from typing import Any

import numpy as np
from autoray import do, get_dtype_name, infer_backend

from ..arrays.backend import (
    BACKENDS,
    Array,
    as_dtype_of,
    as_like,
    check_backend,
    check_dtype,
    convert,
    is_complex,
    to_numpy,
)

Factor = float | complex | Array
"""A number, or an array () or (batch,): one for all samples or one per sample."""


def move(x: Array, backend: str, dtype: str | None = None, device: str | None = None) -> Array:
    """Return ``x`` on a backend, dtype and device; the gradient flows if the backend stays.

    Parameters
    ----------
    x : array
    backend : {"numpy", "torch", "cupy", "jax"}
    dtype : str, optional
        "float32", "float64", "complex64" or "complex128"; by default that of ``x``.
    device : str, optional
        Device string such as "cuda"; by default that of ``x``, or the default device of another
        backend.

    Raises
    ------
    ValueError
        If the backend is not known or not installed, or complex numbers would become real.
    """
    check_backend(backend)
    dtype = dtype or get_dtype_name(x)
    check_dtype(dtype)
    if is_complex(x) and "complex" not in dtype:
        raise ValueError(f"cannot convert complex arrays to {dtype}; take their real part first")
    if infer_backend(x) != backend or (device is not None and backend != "torch"):
        return convert(x, backend, dtype, device)
    x = do("astype", x, dtype)
    return x if device is None else x.to(device)


def place(x: Array) -> str:
    """Return the backend of an array, and its device where the backend has several.

    Examples
    --------
    >>> place(np.zeros(2))
    'numpy'
    """
    backend, device = infer_backend(x), getattr(x, "device", None)
    if backend == "cupy":
        device = f"cuda:{x.device.id}"
    return backend if backend == "numpy" or device is None else f"{backend} on {device}"


def as_factor(value: Any, like: Array, batch: int) -> Factor | None:
    """Return a factor on the backend of a batch of vectors, or None if it is not a number or array.

    Parameters
    ----------
    value : number or array () or (batch,)
        An array of the backend of ``like`` keeps its gradient.
    like : array
        One of the chain's arrays.
    batch : int

    Raises
    ------
    TypeError
        If a complex factor multiplies real vectors, or a factor with a gradient is on another
        backend.
    ValueError
        If an array is neither a single number nor one per sample.

    Examples
    --------
    >>> as_factor(np.float32(2), np.zeros(1), 3), as_factor("2", np.zeros(1), 3)
    (2.0, None)
    """
    if isinstance(value, np.number):
        value = value.item()
    if isinstance(value, (int, float, complex)):
        if isinstance(value, complex) and not is_complex(like):
            raise TypeError(_complex_factor(f"the complex number {value}"))
        return value
    backend = infer_backend(value)
    if backend not in BACKENDS or not hasattr(value, "shape"):
        return None
    if tuple(value.shape) not in ((), (1,), (batch,)):
        raise ValueError(
            f"cannot multiply {batch} vectors by an array of shape {tuple(value.shape)}; expected "
            f"a number, or one for each vector: ({batch},)"
        )
    if is_complex(value) and not is_complex(like):
        raise TypeError(_complex_factor("a complex array"))
    if backend == infer_backend(like):
        value = as_dtype_of(value, like)
        return value.to(like.device) if backend == "torch" else value
    if getattr(value, "requires_grad", False):
        raise TypeError(
            f"the factor has a gradient on {backend}, but the vectors live on "
            f"{infer_backend(like)}; use x.to({backend!r})"
        )
    value = to_numpy(value)
    return value.item() if value.ndim == 0 else as_like(value, like)


def _complex_factor(what: str) -> str:
    return (
        f"cannot multiply real cores by {what}; convert the cores to complex64 or complex128 "
        "first, x.to(backend, 'complex128')"
    )
