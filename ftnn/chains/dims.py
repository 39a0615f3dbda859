"""Checks of dimensions and other integer arguments."""

import operator
from collections.abc import Sequence

import numpy as np


def check_dims(dims: Sequence[int], argument: str) -> tuple[int, ...]:
    """Return ``dims`` as a tuple of positive integers or raise ``ValueError``."""
    try:
        dims = tuple(operator.index(d) for d in dims)
    except TypeError:
        raise TypeError(f"{argument} must be a sequence of integers, got {dims!r}") from None
    if not dims or min(dims) < 1:
        raise ValueError(f"{argument} is {dims}, expected at least one positive integer")
    return dims


def check_both_dims(
    in_dims: Sequence[int], out_dims: Sequence[int], first: str = "in_dims"
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return both as tuples of integers, or raise unless they have equally many sites."""
    in_dims, out_dims = check_dims(in_dims, first), check_dims(out_dims, "out_dims")
    if len(in_dims) != len(out_dims):
        raise ValueError(
            f"{first} has {len(in_dims)} sites and out_dims {len(out_dims)}; both need the same"
        )
    return in_dims, out_dims


def check_positive(value: int, argument: str) -> None:
    """Raise ``ValueError`` unless ``value`` is a positive integer."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{argument} is {value!r}, expected a positive integer")


def check_order(order: Sequence[int] | np.ndarray, sites: int | None = None) -> np.ndarray:
    """Return an order of sites as int64 array (sites,), or raise ``ValueError``.

    Examples
    --------
    >>> check_order([2, 0, 1])
    array([2, 0, 1])
    """
    array = np.asarray(order)
    sites = array.size if sites is None else sites
    whole = array.ndim == 1 and array.dtype.kind in "iu"
    if not whole or sorted(array.tolist()) != list(range(sites)) or not sites:
        raise ValueError(
            f"order is {array.tolist()}, expected each of the sites 0 to {sites - 1} once"
        )
    return array.astype(np.int64)
