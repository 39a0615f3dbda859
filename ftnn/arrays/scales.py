"""Norms and scales of arrays and chains."""

from collections.abc import Sequence

from autoray import do, infer_backend

from .backend import Array, as_dtype_of, tiny
from .functions import abs2, log, norm, peaks, stack, stop_gradient, sum_over


def safe_norm(x: Array, axis: tuple[int, ...]) -> Array:
    """Euclidean norm over ``axis`` whose gradient at zero is zero instead of NaN."""
    if infer_backend(x) == "torch":
        return norm(x, axis)  # torch takes the gradient at zero to be zero
    square = do("sum", abs2(x), axis=axis)
    positive = square > 0
    one = do("ones_like", square)
    root = do("sqrt", do("where", positive, square, one))
    return do("where", positive, root, do("zeros_like", square))


DEAD = -1e9
"""Logarithm of zero: finite, and so small that next to any other it counts as nothing."""


def unit_scale(x: Array, keep: int) -> Array:
    """Norm of ``x`` over all but its first ``keep`` axes, as a constant, kept off zero.

    Sweeps divide by it and put it back in log scale; the product is unchanged, hence its
    gradient may be dropped. It squares the entries, which should be of moderate size: arrays that
    come from outside are divided by their :func:`peak` before.
    """
    return norm(stop_gradient(x), tuple(range(keep, x.ndim))) + tiny(x) ** 0.5


def is_zero(scale: Array) -> Array:
    """Return where a scale that :func:`unit_scale` returned is that of an array of zeros."""
    return scale <= 2 * tiny(scale) ** 0.5


def peak(x: Array) -> Array:
    """Largest modulus in ``x`` (batch, ...) as a constant (batch, 1, ...), or 1 where all is zero.

    Unlike a norm it squares nothing: what is as small as the dtype can hold stays.
    """
    top = peaks(stop_gradient(x))
    return do("reshape", top + (top == 0), (-1,) + (1,) * (x.ndim - 1))


def log_peaks(arrays: Sequence[Array]) -> tuple[tuple[Array, ...], Array, Array]:
    """Return the :func:`peak` of each of some arrays, and the logarithm of their product.

    All together: an operation for each array would take longer than its work.

    Parameters
    ----------
    arrays : sequence of array (batch, ...)

    Returns
    -------
    tops : tuple of array (batch,)
    log : array (batch,)
    live : bool array (batch,)
        Whether none of the arrays is zero.
    """
    top = stack([peaks(stop_gradient(x)) for x in arrays], 0)  # (arrays, batch)
    live = top > 0
    top = do("where", live, top, do("ones_like", top))
    tops = tuple(top[n] for n in range(len(arrays)))
    return tops, sum_over(log(top), (0,)), do("all", live, axis=0)


def log_where(live: Array, log: Array) -> Array:
    """Return logarithms, :data:`DEAD` where not ``live``."""
    return do("where", live, log, DEAD * do("ones_like", log))


def spread(cores: list[Array], log_scale: Array) -> tuple[Array, ...]:
    """Multiply a batched chain by ``exp(log_scale)``, spread evenly over its cores.

    Parameters
    ----------
    cores : list of array (batch, left, phys, right)
    log_scale : array (batch,)
        Natural logarithm of the factor. Even spreading keeps a chain of a thousand sites
        representable in float32 though its norm is not.
    """
    L = len(cores)
    factor = as_dtype_of(do("exp", log_scale / L), cores[0])
    # the rounding of the factor would be repeated L times: the first core makes up for it
    live = do("where", factor != 0, factor, do("ones_like", factor))  # of a zero vector it is zero
    rest = as_dtype_of(do("exp", log_scale - L * log(live)), cores[0])
    factor = factor[:, None, None, None]
    return (cores[0] * (factor * rest[:, None, None, None]), *(c * factor for c in cores[1:]))
