"""Largest bond dimensions: one for every cut of a chain, or one for each."""

from collections.abc import Sequence

import numpy as np

MaxBond = int | Sequence[int]
"""An integer for all cuts, or one for each of the L - 1 cuts, from left to right."""


def check_bonds(max_bond: MaxBond, sites: int, argument: str = "max_bond") -> int | tuple[int, ...]:
    """Return an integer, or a tuple of one for each cut; raise ``ValueError`` otherwise.

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
    """Return ``max_bond`` as :func:`check_bonds` does, or raise unless both are usable."""
    check_tolerance(rtol)
    return None if max_bond is None else check_bonds(max_bond, sites)


def check_tolerance(rtol: float) -> None:
    """Raise ``ValueError`` unless ``rtol`` is a relative error below one."""
    if not 0.0 <= rtol < 1.0:
        raise ValueError(f"rtol is {rtol!r}, expected a number in [0, 1)")


def bond_at(max_bond: MaxBond | None, cut: int) -> int | None:
    """Largest bond at a cut (1 ... L - 1, left of site ``cut``), None without a limit.

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


def _positive(value: object) -> bool:
    integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return integer and bool(value >= 1)  # type: ignore[operator]
