"""Bond dimension limits: one for all cuts of a chain, or one per cut, and what fits in memory."""

import math
import os
from collections.abc import Iterable, Sequence

import numpy as np

from .terms import Term

MaxBond = int | Sequence[int]
"""One integer for all cuts, or one for each of the L - 1 cuts, from left to right."""


def check_bonds(max_bond: MaxBond, sites: int, argument: str = "max_bond") -> int | tuple[int, ...]:
    """Return an integer, or a tuple of one integer per cut; raise ``ValueError`` otherwise.

    Examples
    --------
    >>> check_bonds(4, sites=3), check_bonds([2, 3], sites=3)
    (4, (2, 3))
    """
    if _positive(max_bond):
        return int(max_bond)  # type: ignore[arg-type]
    if (
        isinstance(max_bond, (str, bytes))
        or not isinstance(max_bond, (Sequence, np.ndarray))
        or (isinstance(max_bond, np.ndarray) and max_bond.ndim == 0)
    ):
        raise ValueError(
            f"{argument} is {max_bond!r}, expected a positive integer, or one for each cut"
        )
    bonds = tuple(max_bond)
    if len(bonds) != sites - 1 or not all(_positive(bond) for bond in bonds):
        raise ValueError(
            f"{argument} is {bonds}, expected {sites - 1} positive integers for the cuts of "
            f"{sites} sites, or a single one"
        )
    return tuple(int(bond) for bond in bonds)


def check_rank(max_bond: MaxBond | None, rtol: float, sites: int) -> int | tuple[int, ...] | None:
    """Return ``max_bond`` as :func:`check_bonds` does, or raise unless both are valid."""
    check_tolerance(rtol)
    return None if max_bond is None else check_bonds(max_bond, sites)


def check_tolerance(rtol: float) -> None:
    """Raise ``ValueError`` unless ``rtol`` is a relative error below one."""
    if not isinstance(rtol, (int, float, np.number)) or not 0.0 <= rtol < 1.0:
        raise ValueError(f"rtol is {rtol!r}, expected a number in [0, 1)")


def bond_at(max_bond: MaxBond | None, cut: int) -> int | None:
    """Return the largest bond at a cut (1 ... L - 1, left of site ``cut``), None without a limit.

    Examples
    --------
    >>> bond_at(4, 2), bond_at((2, 3), 2), bond_at(None, 2)
    (4, 3, None)
    """
    if max_bond is None or isinstance(max_bond, int):
        return max_bond
    return max_bond[cut - 1]


def largest_bond(max_bond: MaxBond) -> int:
    """Return the largest of all cuts; 1 for a chain without any."""
    return max_bond if isinstance(max_bond, int) else max(max_bond, default=1)


def cut_bonds(dims: Sequence[int], max_bond: MaxBond | None) -> tuple[int, ...]:
    """Cut ``max_bond`` to what dims allow: bonds left of every site and right of the last.

    Parameters
    ----------
    dims : sequence of int
        Dimension of every site; for an operator the product of its two.
    max_bond : int or tuple of int, optional

    Examples
    --------
    >>> cut_bonds((2, 3, 4, 2), 5), cut_bonds((2, 3, 4, 2), None)
    ((1, 2, 5, 2, 1), (1, 2, 6, 2, 1))
    """
    L = len(dims)
    left, right = [1], [1]
    # products no larger than needed: those of 10^5 sites would have 10^5 digits, each
    largest = None if max_bond is None else largest_bond(max_bond)
    for products, factors in ((left, dims), (right, reversed(dims))):
        for factor in factors:
            new = products[-1] * int(factor)
            products.append(new if largest is None else min(new, largest))
    exact = [min(a, b) for a, b in zip(left, reversed(right), strict=True)]
    limits = [None, *(bond_at(max_bond, k) for k in range(1, L)), None]
    return tuple(b if most is None else min(b, most) for b, most in zip(exact, limits, strict=True))


def check_memory(shapes: Iterable[Sequence[int]], argument: str, dtype_bytes: int = 8) -> None:
    """Raise ``ValueError`` if arrays exceed the machine's memory.

    Parameters
    ----------
    shapes : iterable of sequence of int
        Shapes of all arrays that are about to be allocated.
    argument : str
        Argument to reduce.
    dtype_bytes : int
        Bytes per entry.

    Examples
    --------
    >>> check_memory([(4, 4), (4, 4)], "bond_dim")
    >>> check_memory([(10**6, 4, 10**6)] * 40, "bond_dim")
    Traceback (most recent call last):
        ...
    ValueError: bond_dim asks for 1.28 PB of arrays, the largest of shape (1000000, 4, 1000000), ...
    """
    shapes = [tuple(int(d) for d in shape) for shape in shapes]
    entries = [math.prod(shape) for shape in shapes]
    total, limit = dtype_bytes * sum(entries), _memory()
    if total > limit:
        worst = shapes[entries.index(max(entries))]
        raise ValueError(
            f"{argument} asks for {format_bytes(total)} of arrays, the largest of shape {worst}, "
            f"and this machine has {format_bytes(limit)} of memory; choose a smaller {argument}, "
            "or smaller dimensions"
        )


def format_bytes(size: int) -> str:
    """Return a size in decimal units of three digits.

    Examples
    --------
    >>> format_bytes(512), format_bytes(1_280_000_000), format_bytes(10**30)
    ('512 B', '1.28 GB', '1e+12 EB')
    """
    units = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
    power = min((len(str(int(size))) - 1) // 3, len(units) - 1)
    return f"{size / 1000**power:.3g} {units[power]}"


def _memory() -> int:
    """Return the bytes of physical memory, or a huge number where the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 2**50


def output_bonds(terms: tuple[Term, ...], max_bond: MaxBond | None) -> tuple[int, ...]:
    """Return the bond dimension left of every site (1 at both ends), from shapes alone.

    Each is the smallest of ``max_bond``, the exact bond of the chain, and what the sites to its
    left and to its right can carry.
    """
    dims = terms[0].phys_dims
    L = len(dims)
    bonds = [1] * (L + 1)
    for k in range(1, L):
        exact = sum(term.width(k) for term in terms)
        bonds[k] = min(exact, bonds[k - 1] * dims[k - 1])
    for k in range(L - 1, 0, -1):
        bonds[k] = min(bonds[k], dims[k] * bonds[k + 1], bond_at(max_bond, k) or bonds[k])
    return tuple(bonds)


def _positive(value: object) -> bool:
    integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return integer and bool(value >= 1)  # type: ignore[operator]
