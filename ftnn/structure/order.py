"""site_order: the order of sites in which data need the smallest bonds."""

import math
from typing import Any

import numpy as np

from ..chains.states import MPS
from .arrangement import closer_to_given, spectral_order
from .information import site_information
from .mean_state import MOST_COLUMNS
from .sifting import sifted
from .subsets import dense_states, optimal_order, set_cost, set_costs

METHODS = ("sifting", "spectral", "exact")
LARGEST = 2**MOST_COLUMNS
"""Entries of the dense states that sifting takes, at most."""


def site_order(data: Any, method: str = "sifting", max_bond: int | None = None) -> np.ndarray:
    r"""Return the sites of data in an order in which those that depend on each other are close.

    Parameters
    ----------
    data : MPS or array (samples, sites)
        Training data only. In an array a site is a column, and columns depend on each other over
        the samples; in states, sites depend on each other within every sample. Product states,
        such as those of a table or of the patches of images, have no dependence: give the array.
    method : {"sifting", "spectral", "exact"}
        "spectral" lowers :math:`\sum_{i<j} I_{ij} |\pi_i - \pi_j|` over positions :math:`\pi`, with
        the mutual information I of :func:`site_information`: it is the information that pairs of
        sites share across a cut, summed over the cuts; see :mod:`ftnn.structure.arrangement`.
        "exact", for 12 sites or fewer, minimizes the sum over the cuts of the entropies, means over
        the states; see :mod:`ftnn.structure.subsets`. "sifting" lowers the same sum, from the
        spectral order on, by moving single sites; where dense states have more than 2^16 entries
        it leaves the spectral order as it is. For an array, "sifting" and "exact" take the
        entropies of its mean state, see :mod:`ftnn.structure.mean_state`.
    max_bond : int, optional
        With "sifting" and "exact": the sum over the cuts of what truncation to this bond discards
        of the squared norm, in place of entropies.

    Returns
    -------
    int array (sites,)
        The sites from left to right: site k of the new chain is the site ``order[k]`` of data.
        An order and its reverse cost the same; it is the one closer to that of data.

    Raises
    ------
    TypeError
        If ``data`` is neither states nor numbers.
    ValueError
        If there are no samples, fewer than two sites, entries that are not finite, or arguments
        that do not go together.

    See Also
    --------
    permute_sites : states and arrays in another order.

    Examples
    --------
    >>> import ftnn
    >>> steps = np.random.default_rng(0).standard_normal((2000, 6))
    >>> walk = np.cumsum(steps, axis=1)[:, [3, 0, 5, 1, 4, 2]]  # columns of a walk, shuffled
    >>> print(ftnn.structure.site_order(walk))
    [1 3 5 0 4 2]
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; choose one of {', '.join(METHODS)}")
    if max_bond is not None:
        if method == "spectral":
            raise ValueError(
                f"max_bond is {max_bond}, but method 'spectral' knows no bonds; leave it out, or "
                "choose 'sifting' or 'exact'"
            )
        if not isinstance(max_bond, (int, np.integer)) or max_bond < 1:
            raise ValueError(f"max_bond is {max_bond!r}, expected a positive integer")
    if method == "exact":
        return closer_to_given(optimal_order(set_costs(data, max_bond)))
    order = spectral_order(site_information(data))
    if method == "spectral" or _entries(data, len(order)) > LARGEST:
        return order
    x = dense_states(data)
    return closer_to_given(sifted(order, lambda chosen: set_cost(x, chosen, max_bond)))


def _entries(data: Any, sites: int) -> int:
    """Return the number of entries of a dense state."""
    return math.prod(data.phys_dims) if isinstance(data, MPS) else 2**sites
