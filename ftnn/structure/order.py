"""site_order: the order of sites in which data need the smallest bonds."""

from typing import Any

import numpy as np

from ..chains.states import MPS
from .arrangement import spectral_order
from .information import check_states, site_information
from .subsets import check_few, optimal_order, set_costs

METHODS = ("spectral", "exact")


def site_order(data: Any, method: str = "spectral", max_bond: int | None = None) -> np.ndarray:
    r"""Return the sites of data in an order in which those that depend on each other are close.

    Parameters
    ----------
    data : MPS or array (samples, sites)
        Training data only. In an array a site is a column, and columns depend on each other over
        the samples; in states, sites depend on each other within every sample.
    method : {"spectral", "exact"}
        "spectral" lowers :math:`\sum_{i<j} I_{ij} |\pi_i - \pi_j|` over positions :math:`\pi`, with
        the mutual information I of :func:`site_information`: it is the information that pairs of
        sites share across a cut, summed over the cuts; see :mod:`ftnn.structure.arrangement`.
        "exact", for 12 sites or fewer, minimizes a sum over the cuts: of the entropies of states,
        means over the samples; of the information between pairs of columns of an array, which is
        the cost that "spectral" lowers. See :mod:`ftnn.structure.subsets`.
    max_bond : int, optional
        With "exact", of states: minimize the sum over the cuts of what truncation to this bond
        discards of the squared norm, in place of entropies.

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
    states = isinstance(data, MPS)
    if max_bond is not None:
        if method != "exact" or not states:
            raise ValueError(
                f"max_bond is {max_bond}, but method {method!r} of "
                f"{'states' if states else 'an array'} knows no bonds; leave it out, or give "
                "states and method 'exact'"
            )
        if not isinstance(max_bond, (int, np.integer)) or max_bond < 1:
            raise ValueError(f"max_bond is {max_bond!r}, expected a positive integer")
    if method == "spectral":
        return spectral_order(site_information(data))
    if states:
        check_states(data)
        check_few(data.L)
        costs = set_costs(data, max_bond)
    else:
        information = site_information(data)
        costs = set_costs(information)
    order = optimal_order(costs)
    given = np.arange(len(order)) - (len(order) - 1) / 2
    likeness = float(given @ order)
    return order[::-1] if likeness < 0 or (likeness == 0 and order[0] > order[-1]) else order
