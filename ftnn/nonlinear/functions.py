"""Functions of one variable by name, on arrays of any backend, and the scaling of core entries."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from autoray import do, infer_backend

from ..arrays.backend import BACKENDS, Array, convert, is_complex, to_numpy
from ..arrays.functions import erf
from ..arrays.scales import peak, safe_norm
from ..chains.dims import check_dims

Function = Callable[[Array], Array]


def relu(u: Array) -> Array:
    """Return ``max(u, 0)``."""
    return do("where", u <= 0, do("zeros_like", u), u)  # NaN stays NaN


def gelu(u: Array) -> Array:
    """Return ``u`` times the normal distribution function of ``u``."""
    return 0.5 * u * (1.0 + erf(u / math.sqrt(2.0)))


def tanh(u: Array) -> Array:
    """Return the hyperbolic tangent."""
    return do("tanh", u)


def sigmoid(u: Array) -> Array:
    """Return ``1 / (1 + exp(-u))``, without overflow."""
    return 0.5 * (1.0 + do("tanh", 0.5 * u))


def silu(u: Array) -> Array:
    """Return ``u`` times its sigmoid."""
    return u * sigmoid(u)


def sine(u: Array) -> Array:
    """Return ``sin(u)``."""
    return do("sin", u)


FUNCTIONS: dict[str, Function] = {
    "relu": relu,
    "gelu": gelu,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "silu": silu,
    "sin": sine,
}
"""Functions that a layer can be saved with."""


@dataclass(frozen=True)
class Resolved:
    """A function of entries that has been tested on a small array.

    Attributes
    ----------
    argument : str or callable
        Argument of the layer: a name, or a callable.
    function : callable
    value : float
        Value at the test point.
    backend : str or None
        The only backend that it supports; None if it supports all.
    """

    argument: str | Function
    function: Function
    value: float
    backend: str | None = None

    def __call__(self, u: Array) -> Array:
        """Apply the function, or raise ``TypeError`` for arrays of an unsupported backend."""
        if self.backend is not None and infer_backend(u) != self.backend:
            raise TypeError(
                f"fn, {_name(self.function)}, is a function of {self.backend} arrays, but x lives "
                f"on {infer_backend(u)}; use layer.to({self.backend!r}), or a function of any "
                "backend, e.g. by its name"
            )
        return self.function(u)


def resolve_function(fn: str | Function, at_zero: bool) -> Resolved:
    """Look up a function, and test it on a small array.

    A function of torch, NumPy, JAX or CuPy is tested on that backend; any other, such as a
    user-defined one, on NumPy, and if it fails there on the other loaded backends.

    Parameters
    ----------
    fn : str or callable
    at_zero : bool
        Whether to evaluate it at zero; otherwise at one.

    Returns
    -------
    Resolved

    Raises
    ------
    TypeError
        If ``fn`` is neither a name nor callable, fails on every backend, or does not act entry by
        entry.
    ValueError
        If the name is unknown, or the value is undefined, infinite or NaN.
    """
    point = 0.0 if at_zero else 1.0
    if isinstance(fn, str):
        if fn not in FUNCTIONS:
            raise ValueError(f"fn is {fn!r}; choose one of {', '.join(FUNCTIONS)}, or a callable")
        return Resolved(fn, FUNCTIONS[fn], float(FUNCTIONS[fn](np.full(1, point))[0]))
    name = next((key for key, known in FUNCTIONS.items() if known is fn), None)
    if name is not None:
        return resolve_function(name, at_zero)
    if not callable(fn):
        raise TypeError(f"fn is a {type(fn).__name__}, expected a name or a callable of arrays")
    home = _home(fn)
    value, backend, failures = None, home, []
    for place in [home] if home else ["numpy", *(b for b in _OTHERS if b in sys.modules)]:
        try:
            value = _try(fn, point, place)
        except Exception as error:  # a function may raise anything for arrays of another backend
            failures.append(f"on {place}: {type(error).__name__}: {_first_line(error)}")
        else:
            backend = place if failures else home
            break
    if value is None:
        raise TypeError(
            f"fn, {_name(fn)}, fails on an array of shape (2, 3), {'; '.join(failures)}"
        )
    if value.shape != (2, 3):
        raise TypeError(
            f"fn maps an array (2, 3) to {value.shape}, expected a function of every entry"
        )
    if not np.isfinite(value).all():
        raise ValueError(
            f"fn is not finite at {point:g}: fn({point:g}) = {value.flat[0]}; "
            "give a function that is, e.g. lambda u: u * fn(u) or one shifted away from the pole"
        )
    return Resolved(fn, fn, float(value.flat[0]), backend)


_OTHERS = tuple(backend for backend in BACKENDS if backend != "numpy")


def _home(fn: Function) -> str | None:
    """Return the backend whose package contains a function or module, if any."""
    if isinstance(fn, np.ufunc):  # also those of SciPy
        return "numpy"
    owners = (fn, getattr(fn, "__self__", None), type(fn))  # torch.tanh is a builtin method
    for owner in owners:
        module = getattr(owner, "__module__", None) or ""
        root = module.partition(".")[0].removesuffix("lib")
        if root in BACKENDS:
            return root
    return None


def _try(fn: Function, point: float, backend: str) -> np.ndarray:
    with np.errstate(all="ignore"):
        try:
            return to_numpy(_as_array(fn(convert(np.full((2, 3), point), backend))))
        except ZeroDivisionError:
            return np.full((2, 3), math.nan)


def _as_array(value: Any) -> Array:
    return value if hasattr(value, "shape") else np.asarray(value)


def _name(fn: Any) -> str:
    return getattr(fn, "__name__", None) or type(fn).__name__


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")


def scaled_entries(core: Array, count: int | None = None) -> tuple[Array, Array]:
    """Scale a core to mean square 1 per physical entry.

    The scale is the norm, which zero padding does not change, not a mean over entries, which
    padding does change.

    Parameters
    ----------
    core : array (batch, left, phys, right)
    count : int, optional
        Number of physical entries that the mean is taken over, by default ``phys``.

    Returns
    -------
    u : array (batch, left, phys, right)
        Squared norm ``count``; zero if the core is zero.
    norm : array (batch, 1, 1, 1)
        Divisor of the core.
    """
    top = peak(core)  # (batch, 1, 1, 1): squares of what it leaves neither vanish nor overflow
    norm = safe_norm(core / top, (1, 2, 3)) / (count or core.shape[2]) ** 0.5
    norm = do("where", norm > 0, norm, do("ones_like", norm))[:, None, None, None] * top
    return core / norm, norm


def check_mean_dims(
    mean_dims: Sequence[int] | None, dims: tuple[int, ...] | None = None
) -> tuple[int, ...] | None:
    """Return ``mean_dims`` as a tuple, or raise ``ValueError`` if they are more than ``dims``."""
    if mean_dims is None:
        return None
    counts = check_dims(mean_dims, "mean_dims")
    if dims is not None and (
        len(counts) != len(dims) or any(n > p for n, p in zip(counts, dims, strict=True))
    ):
        raise ValueError(
            f"mean_dims is {counts}, expected a number from 1 to the dimension for each site of "
            f"{dims}"
        )
    return counts


def counts_of(cores: tuple[Array, ...], mean_dims: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the number of channels of every site that means are taken over."""
    dims = tuple(core.shape[2] for core in cores)
    return dims if mean_dims is None else check_mean_dims(mean_dims, dims) or dims


def check_real(cores: tuple[Array, ...], layer: str) -> None:
    """Raise ``TypeError`` if the cores are complex."""
    if is_complex(cores[0]):
        raise TypeError(f"{layer} acts on real cores; the input is complex")
