"""Norms and scales of arrays and chains."""

from collections.abc import Sequence

from autoray import do, infer_backend

from .backend import Array, as_dtype_of, tiny
from .functions import (
    abs2,
    at_most,
    concat,
    log,
    norm,
    peaks,
    replace_small,
    replace_zeros,
    stack,
    stop_gradient,
    sum_over,
)


def safe_norm(x: Array, axis: tuple[int, ...]) -> Array:
    """Return the Euclidean norm over ``axis``, whose gradient at zero is zero instead of NaN."""
    if infer_backend(x) == "torch":
        return norm(x, axis)  # torch takes the gradient at zero to be zero
    square = do("sum", abs2(x), axis=axis)
    positive = square > 0
    one = do("ones_like", square)
    root = do("sqrt", do("where", positive, square, one))
    return do("where", positive, root, do("zeros_like", square))


DEAD = -1e9
"""Logarithm of zero: finite, and negligible next to any other."""


def unit_scale(x: Array, keep: int) -> Array:
    """Return the norm of ``x`` over all but its first ``keep`` axes, as a nonzero constant.

    Sweeps divide by it and put it back in log scale; the product is unchanged, hence its
    gradient may be dropped. It squares the entries, which should be of moderate size: arrays that
    come from outside are divided by their :func:`peak` before.
    """
    return norm(stop_gradient(x), tuple(range(keep, x.ndim))) + tiny(x) ** 0.5


def zero_bound(like: Array) -> float:
    """Return the largest scale, of :func:`unit_scale`, that is one of an array of zeros."""
    return 2 * tiny(like) ** 0.5


def log_dead(scale: Array) -> Array:
    """Return :data:`DEAD` where a scale is that of an array of zeros, and 0 elsewhere."""
    return at_most(replace_small(scale, zero_bound(scale), DEAD), 0.0)


def peak(x: Array) -> Array:
    """Return the largest modulus in ``x`` (batch, ...) as a constant (batch, 1, ...), 1 for zeros.

    Unlike a norm it squares nothing: what is as small as the dtype can hold stays.
    """
    return replace_zeros(peaks(x)).reshape((-1,) + (1,) * (x.ndim - 1))


def all_peaks(arrays: Sequence[Array], ndim: int) -> tuple[Array, ...]:
    """Return the :func:`peak` (batch, 1, ...) of each of some arrays, with ``ndim`` axes.

    All together: an operation for each array would take longer than its work.
    """
    top = replace_zeros(stack([peaks(x) for x in arrays], 0))  # (arrays, batch)
    return tuple(top.reshape((len(arrays), -1) + (1,) * (ndim - 1)))


def log_peaks(arrays: Sequence[Array], ndim: int) -> tuple[tuple[Array, ...], Array, Array]:
    """Return :func:`all_peaks`, and the logarithm of their product.

    Parameters
    ----------
    arrays : sequence of array (batch, ...)
    ndim : int

    Returns
    -------
    tops : tuple of array (batch, 1, ...)
    log : array (batch,)
    live : bool array (batch,)
        Whether none of the arrays is zero.
    """
    top = stack([peaks(x) for x in arrays], 0)  # (arrays, batch)
    live = do("all", top > 0, axis=0)
    top = replace_zeros(top)
    tops = tuple(top.reshape((len(arrays), -1) + (1,) * (ndim - 1)))
    return tops, sum_over(log(top), (0,)), live


def divide_by_peaks(arrays: Sequence[Array]) -> tuple[tuple[Array, ...], Array, Array]:
    """Divide each of some arrays, which have no batch, by its largest modulus.

    Arrays of the same shape are divided together.

    Returns
    -------
    arrays : tuple of array
    log : array (1,)
        Logarithm of the product of what they were divided by.
    live : bool array (1,)
        Whether none of the arrays is zero.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for n, array in enumerate(arrays):
        groups.setdefault(tuple(array.shape), []).append(n)
    new: list[Array] = [None] * len(arrays)
    tops = []
    for shape, members in groups.items():
        first = arrays[members[0]]
        x = stack([arrays[n] for n in members], 0) if len(members) > 1 else first[None]
        top = peaks(x)  # (members,)
        tops.append(top)
        x = x / replace_zeros(top).reshape((-1,) + (1,) * len(shape))
        for n, array in zip(members, tuple(x), strict=True):
            new[n] = array
    top = concat(tops, 0)[:, None]  # (arrays, 1)
    return tuple(new), sum_over(log(replace_zeros(top)), (0,)), do("all", top > 0, axis=0)


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
