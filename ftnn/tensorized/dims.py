"""Sizes as products: factors of numbers, and of somewhat larger ones where those are primes."""

from functools import cache
from math import prod

MOST_PADDING = 1.125
"""A number is padded to at most this multiple of it for better factors."""

BALANCED = 3.0
"""Ratio of the largest to the smallest factor that needs no padding."""


@cache
def factors(number: int, count: int) -> tuple[int, ...]:
    """Return factors, as equal as there are, whose product is a number or a little more.

    Parameters
    ----------
    number : int
    count : int

    Returns
    -------
    tuple of int
        In descending order; their product is at least ``number``.

    Examples
    --------
    >>> factors(1024, 2), factors(784, 2), factors(10, 2), factors(127, 2), factors(1, 3)
    ((32, 32), (28, 28), (5, 2), (16, 8), (1, 1, 1))
    """
    if count == 1:
        return (number,)
    best: tuple[float, tuple[int, ...]] | None = None
    for padded in range(number, max(int(number * MOST_PADDING), number + 2) + 1):
        found = exact_factors(padded, count)
        ratio = found[0] / found[-1]
        if ratio <= BALANCED:
            return found
        if best is None or ratio < best[0]:
            best = ratio, found
    assert best is not None
    return best[1]


def exact_factors(number: int, count: int) -> tuple[int, ...]:
    """Return ``count`` factors of exactly a number, the largest as small as possible."""
    if count == 1:
        return (number,)
    found: list[tuple[int, ...]] = []
    for first in _divisors(number):
        if first**count >= number:
            rest = exact_factors(number // first, count - 1)
            found.append(tuple(sorted((first, *rest), reverse=True)))
    return min(found, key=lambda parts: (parts[0], -parts[-1]))


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def check_dims(dims: tuple[int, ...], size: int, name: str) -> None:
    """Raise ``ValueError`` unless dimensions are positive and hold a size."""
    positive = all(isinstance(dim, int) and dim >= 1 for dim in dims)
    if not dims or not positive or prod(dims) < size:
        raise ValueError(
            f"{name} {dims} multiply to {prod(dims)}, expected integers whose product is at least "
            f"{size}; try {factors(size, max(len(dims), 1))}"
        )
