"""Functions of one variable by name, on arrays of any backend, and the scaling of core entries."""

import math
from collections.abc import Callable

import numpy as np
from autoray import do

from ..arrays.backend import Array, is_complex
from ..arrays.functions import erf
from ..arrays.scales import safe_norm

Function = Callable[[Array], Array]


def relu(u: Array) -> Array:
    """``max(u, 0)``."""
    return do("where", u <= 0, do("zeros_like", u), u)  # NaN stays NaN


def gelu(u: Array) -> Array:
    """``u`` times the normal distribution function of ``u``."""
    return 0.5 * u * (1.0 + erf(u / math.sqrt(2.0)))


def tanh(u: Array) -> Array:
    """Hyperbolic tangent."""
    return do("tanh", u)


def sigmoid(u: Array) -> Array:
    """``1 / (1 + exp(-u))``, without overflow."""
    return 0.5 * (1.0 + do("tanh", 0.5 * u))


def silu(u: Array) -> Array:
    """``u`` times its sigmoid."""
    return u * sigmoid(u)


def sine(u: Array) -> Array:
    """``sin(u)``."""
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


def resolve(fn: str | Function, at_zero: bool) -> tuple[Function, str | None, float]:
    """Look a function up, and try it.

    Parameters
    ----------
    fn : str or callable
    at_zero : bool
        Whether its value at zero is needed; else at one.

    Returns
    -------
    function : callable
    name : str or None
        None for a callable that has no name here.
    value : float
        At the point tried.

    Raises
    ------
    TypeError
        If ``fn`` is neither a name nor callable, or does not act entry by entry.
    ValueError
        If the name is unknown, or the value is undefined, infinite or NaN.
    """
    if isinstance(fn, str):
        if fn not in FUNCTIONS:
            raise ValueError(f"fn is {fn!r}; choose one of {', '.join(FUNCTIONS)}, or a callable")
        return FUNCTIONS[fn], fn, float(FUNCTIONS[fn](np.full(1, 0.0 if at_zero else 1.0))[0])
    if not callable(fn):
        raise TypeError(f"fn is a {type(fn).__name__}, expected a name or a callable of arrays")
    point = 0.0 if at_zero else 1.0
    with np.errstate(all="ignore"):
        try:
            value = np.asarray(fn(np.full((2, 3), point)))
        except ZeroDivisionError:
            value = np.full((2, 3), math.nan)
    if value.shape != (2, 3):
        raise TypeError(
            f"fn maps an array (2, 3) to {value.shape}, expected a function of every entry"
        )
    if not np.isfinite(value).all():
        raise ValueError(
            f"fn is not finite at {point:g}: fn({point:g}) = {value.flat[0]}; "
            "give a function that is, e.g. lambda u: u * fn(u) or one shifted away from the pole"
        )
    name = next((key for key, known in FUNCTIONS.items() if known is fn), None)
    return fn, name, float(value.flat[0])


def scaled_entries(core: Array) -> tuple[Array, Array]:
    """Scale a core to mean square 1 per physical entry.

    By its norm, which zero padding does not change; never by means over entries, which it does.

    Parameters
    ----------
    core : array (batch, left, phys, right)

    Returns
    -------
    u : array (batch, left, phys, right)
        Of squared norm ``phys``; zero if the core is.
    norm : array (batch, 1, 1, 1)
        What the core was divided by.
    """
    norm = safe_norm(core, (1, 2, 3)) / core.shape[2] ** 0.5
    norm = do("where", norm > 0, norm, do("ones_like", norm))[:, None, None, None]
    return core / norm, norm


def check_real(cores: tuple[Array, ...], layer: str) -> None:
    """Raise ``TypeError`` if the cores are complex."""
    if is_complex(cores[0]):
        raise TypeError(f"{layer} acts on real cores; the input is complex")
