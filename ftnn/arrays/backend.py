"""Array backends: names, conversion, precision, and the few operations autoray lacks."""

import importlib.util
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from autoray import do, get_dtype_name, infer_backend

Array = Any
"""An array of any backend: numpy.ndarray, torch.Tensor, cupy.ndarray or jax.Array."""

BACKENDS = ("numpy", "torch", "cupy", "jax")
DTYPES = ("float32", "float64", "complex64", "complex128")

_EPS = {name: float(np.finfo(name).eps) for name in DTYPES}
_TINY = {name: float(np.finfo(name).tiny) for name in DTYPES}


def eps(x: Array) -> float:
    """Machine epsilon of the real numbers behind the dtype of ``x``."""
    return _EPS[get_dtype_name(x)]


def tiny(x: Array) -> float:
    """Smallest normal number of the real numbers behind the dtype of ``x``."""
    return _TINY[get_dtype_name(x)]


def is_complex(x: Array) -> bool:
    """Whether ``x`` has a complex dtype."""
    return "complex" in get_dtype_name(x)


def check_backend(backend: str) -> None:
    """Raise unless ``backend`` is a known name and its package is installed."""
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; choose one of {', '.join(BACKENDS)}")
    if importlib.util.find_spec(backend) is None:
        raise ValueError(
            f"backend {backend!r} is not installed; `pip install 'ftnn[{_EXTRA[backend]}]'`"
        )


_EXTRA = {"numpy": "dev", "torch": "torch", "cupy": "cuda", "jax": "jax"}


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
            f"{argument} mix {' and '.join(sorted(kinds))}; bring all to one backend and dtype"
        )


def check_finite(x: Array, argument: str) -> None:
    """Raise ``ValueError`` if ``x`` holds a NaN or an infinity."""
    if not bool(do("all", do("isfinite", x))):
        raise ValueError(f"{argument} holds NaN or infinite entries; clean or mask them first")


def to_numpy(x: Array) -> np.ndarray:
    """Copy ``x`` to host memory as a NumPy array, dropping any gradient graph."""
    backend = infer_backend(x)
    if backend == "torch":
        return x.detach().cpu().resolve_conj().numpy()
    if backend == "cupy":
        return x.get()
    return np.asarray(x)


def convert(x: Array, backend: str, dtype: str | None = None, device: Any = None) -> Array:
    """Return ``x`` on another backend, dtype and device (all by value, without a graph).

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
    if backend == "torch":
        import torch

        if infer_backend(x) != "torch":
            x = torch.from_numpy(np.array(to_numpy(x)))
        return x.detach().to(dtype=getattr(torch, dtype), device=device)
    x = to_numpy(x)
    if "complex" in get_dtype_name(x) and "complex" not in dtype:
        raise ValueError(f"cannot convert complex arrays to {dtype}; take .real first")
    x = x.astype(dtype)
    if backend == "numpy":
        if device not in (None, "cpu"):
            raise ValueError(f"device is {device!r}, but the numpy backend has only 'cpu'")
        return x
    if backend == "cupy":
        import cupy

        with cupy.cuda.Device(int((device or "cuda:0").partition(":")[2] or 0)):
            return cupy.asarray(x)
    import jax

    return jax.device_put(x, jax.devices(device)[0] if device else None)


def as_like(x: np.ndarray, like: Array) -> Array:
    """Return the NumPy array ``x`` on the backend, dtype and device of ``like``."""
    backend = infer_backend(like)
    if backend == "torch":
        return convert(x, backend, get_dtype_name(like), like.device)
    if backend == "cupy":
        return convert(x, backend, get_dtype_name(like), f"cuda:{like.device.id}")
    return convert(x, backend, get_dtype_name(like))


def drawn(draw: Callable[..., Any], *arguments: int, like: Array) -> tuple[Array, ...]:
    """Draw arrays, ``draw(*arguments)``, on the backend, dtype and device of ``like``.

    Parameters
    ----------
    draw : callable
        A function of a module that returns a tuple of NumPy arrays; torch.compile does not
        enter it.
    *arguments : int
    like : array
    """
    if infer_backend(like) == "torch":
        from ._torch import drawn_torch

        return drawn_torch(draw, arguments, get_dtype_name(like), like.device)
    return tuple(as_like(x, like) for x in draw(*arguments))


def random_uniform(shape: tuple[int, ...], like: Array, rng: np.random.Generator) -> Array:
    """Draw real numbers in [0, 1) in the precision and on the backend and device of ``like``.

    On NumPy they come from ``rng``, on torch and CuPy from the library's own generator for the
    device: nothing is moved there.

    Raises
    ------
    NotImplementedError
        On JAX, whose functions hold no state.
    """
    backend = infer_backend(like)
    dtype = "float32" if in_single(like) else "float64"
    if backend == "torch":
        import torch

        return torch.rand(shape, dtype=getattr(torch, dtype), device=like.device)
    if backend == "cupy":
        return do("random.random", shape, dtype=dtype, like=backend)
    if backend == "numpy":
        return rng.random(shape, np.float32 if in_single(like) else np.float64)
    raise NotImplementedError(
        f"random draws in training are not available on {backend}; use torch, NumPy or CuPy, or "
        "evaluate: layer.eval()"
    )


def as_index(x: np.ndarray, like: Array) -> Array:
    """Return the array of integers ``x`` on the backend and device of ``like``."""
    backend = infer_backend(like)
    if backend == "torch":
        import torch

        return torch.from_numpy(x).to(like.device)
    if backend == "numpy":
        return x
    return do("asarray", x, like=backend)


def stop_gradient(x: Array) -> Array:
    """Return ``x`` as a constant of differentiation."""
    backend = infer_backend(x)
    if backend == "torch":
        return x.detach()
    if backend == "jax":
        import jax

        return jax.lax.stop_gradient(x)
    return x


def recomputed(function: Callable[[Any], Any], cores: Any) -> Any:
    """Call ``function(cores)``, on torch keeping nothing inside for the backward pass.

    What is inside is computed again there. On other backends it is a plain call.
    """
    if infer_backend(cores[0]) != "torch":
        return function(cores)
    from torch.utils.checkpoint import checkpoint

    return checkpoint(function, cores, use_reentrant=False)


_RECOMPUTING = ContextVar("recomputing", default=False)


@contextmanager
def recomputing() -> Iterator[None]:
    """Within it, a truncation computes its steps again in the backward pass, on torch."""
    token = _RECOMPUTING.set(True)
    try:
        yield
    finally:
        _RECOMPUTING.reset(token)


def step_of_truncation(function: Callable[[Any], Any], arrays: Any) -> Any:
    """Call ``function(arrays)``, :func:`recomputed` within :func:`recomputing`."""
    if infer_backend(arrays[0]) == "torch":
        from ._torch import is_compiling  # the compiler cannot follow a context variable

        if not is_compiling() and _RECOMPUTING.get():
            return recomputed(function, arrays)
    return function(arrays)


def synchronize(place: str) -> None:
    """Wait until the device of a place, such as "torch-cuda", has done all that it was given."""
    if place == "torch-cuda":
        import torch

        torch.cuda.synchronize()
    elif place == "cupy-cuda":
        import cupy

        cupy.cuda.Device().synchronize()


def permute(x: Array, *axes: int) -> Array:
    """Permute the axes of ``x``."""
    return do("transpose", x, axes)


def transposed(x: Array) -> Array:
    """Swap the last two axes of ``x``."""
    return do("swapaxes", x, -2, -1)


def in_single(x: Array) -> bool:
    """Whether ``x`` has a dtype of single precision."""
    return get_dtype_name(x) in ("float32", "complex64")


def in_double(x: Array) -> Array:
    """Return ``x`` in double precision."""
    return do("astype", x, "complex128" if is_complex(x) else "float64")


def diagonal(x: Array) -> Array:
    """Diagonals of a stack of square matrices."""
    if infer_backend(x) == "torch":
        return x.diagonal(dim1=-2, dim2=-1)
    return do("diagonal", x, axis1=-2, axis2=-1)


def add_diagonal(x: Array, values: Array) -> Array:
    """Add ``values`` (..., n) to the diagonals of ``x`` (..., n, n), which may be overwritten."""
    if infer_backend(x) == "torch":
        diagonal(x).add_(values)
        return x
    return x + values[..., None] * do("eye", x.shape[-1], like=x)


def tril(x: Array, k: int = 0) -> Array:
    """Lower triangles of a stack of matrices, from the ``k``-th diagonal down."""
    if infer_backend(x) == "torch":
        return x.tril(k)
    return do("tril", x, k)


def largest(x: Array, axis: int) -> Array:
    """Largest entry along ``axis``, which stays with size 1."""
    if infer_backend(x) == "torch":
        return x.amax(dim=axis, keepdim=True)
    return do("max", x, axis=axis, keepdims=True)


def erf(x: Array) -> Array:
    """Error function."""
    backend = infer_backend(x)
    if backend == "torch":
        return x.erf()
    if backend == "numpy":
        from scipy.special import erf as function
    elif backend == "cupy":
        from cupyx.scipy.special import erf as function
    else:
        from jax.scipy.special import erf as function
    return function(x)


def at_least(x: Array, bound: float) -> Array:
    """Replace entries below ``bound`` by it."""
    return x.clamp(bound) if infer_backend(x) == "torch" else do("maximum", x, bound)


def sum_over(x: Array, axes: tuple[int, ...]) -> Array:
    """Sum over ``axes``."""
    if infer_backend(x) == "torch":
        return x.sum(axes)
    return do("sum", x, axis=axes)


def norm(x: Array, axes: tuple[int, ...]) -> Array:
    """Euclidean norm over ``axes``; its gradient at zero is not defined."""
    if infer_backend(x) == "torch":
        import torch

        return torch.linalg.vector_norm(x, dim=axes)
    return do("sqrt", do("sum", do("abs", x) ** 2, axis=axes))


def log(x: Array) -> Array:
    """Natural logarithm of positive numbers, in double precision where the backend has it.

    Scales of a thousand sites add up to logarithms of thousands, whose rounding in single
    precision would be an error of a per cent in the norm.
    """
    return do("log", in_double(x) if infer_backend(x) != "jax" else x)


def as_dtype_of(x: Array, like: Array) -> Array:
    """Return ``x`` in the dtype of ``like``."""
    return do("astype", x, get_dtype_name(like))


def cholesky(x: Array) -> Array:
    """Lower Cholesky factor of a stack of positive definite matrices.

    Matrices with NaN or infinite entries give NaN; nothing is raised, and nothing waits for the
    device.
    """
    if infer_backend(x) == "torch":
        import torch

        return torch.linalg.cholesky_ex(x).L
    good = do("all", do("isfinite", x), axis=(-2, -1))[..., None, None]
    eye = do("eye", x.shape[-1], like=x)
    return do("where", good, do("linalg.cholesky", do("where", good, x, eye)), math.nan)


def invert_lower(x: Array) -> Array:
    """Invert a stack of lower triangular matrices."""
    if infer_backend(x) == "torch":
        import torch

        eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device).expand(x.shape)
        # LAPACK's solutions lie in memory by columns: this one by rows
        return torch.linalg.solve_triangular(x.mT, eye, upper=True).mT
    return tril(do("linalg.inv", x))  # a general inverse leaves rounding above the diagonal


# autoray translates the names of keyword arguments at every call, which torch.compile cannot
# follow; the functions of the hot path therefore call torch by its own names.


def take_along(x: Array, index: Array, axis: int) -> Array:
    """Entries of ``x`` at ``index`` along ``axis``."""
    if infer_backend(x) == "torch":
        return x.gather(axis, index)
    return do("take_along_axis", x, index, axis)


def concat(arrays: Sequence[Array], axis: int) -> Array:
    """Concatenate ``arrays`` along ``axis``."""
    if infer_backend(arrays[0]) == "torch":
        import torch

        return torch.cat(list(arrays), axis)
    return do("concatenate", arrays, axis=axis)


def stack(arrays: Sequence[Array], axis: int) -> Array:
    """Stack ``arrays`` along a new ``axis``."""
    if infer_backend(arrays[0]) == "torch":
        import torch

        return torch.stack(list(arrays), axis)
    return do("stack", arrays, axis=axis)


def dims_product(dims: Iterable[int]) -> int:
    """Product of ``dims`` as an exact Python integer (4**100 does not overflow)."""
    return math.prod(int(d) for d in dims)
