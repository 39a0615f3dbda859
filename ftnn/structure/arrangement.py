r"""Orders of sites that bring those that depend on each other together.

For weights :math:`w_{ij} \ge 0` between sites, here their mutual information, and positions
:math:`\pi_i`, the cost of an order is

.. math:: E(\pi) = \sum_{i<j} w_{ij} |\pi_i - \pi_j|
        = \sum_{\text{cuts}} \sum_{i \text{ left},\, j \text{ right}} w_{ij}:

what pairs of sites share across every cut, summed over the cuts. (A pair is on two sides of as many
cuts as it is sites apart.) To find the best order is NP-hard, "minimum linear arrangement".

Spectral ordering puts squares for moduli and real numbers for positions: of all x with mean 0 and
norm 1,

.. math:: \sum_{i<j} w_{ij} (x_i - x_j)^2 = x^T (D - W)\, x

is smallest for the eigenvector to the second smallest eigenvalue of the Laplacian D - W, the
Fiedler vector (Juvan and Mohar, 1992); sites are sorted by it. Then :math:`E` itself is lowered:
the site whose move elsewhere lowers it most is moved, until none does.
"""

import numpy as np
from scipy.sparse.csgraph import connected_components

_ZERO = 1e-12
"""Weights below this share of the largest are none."""

_TIE = 1e-8
"""Eigenvalues, and entries of eigenvectors, that are this close are equal."""


def spectral_order(weights: np.ndarray, refine: bool = True) -> np.ndarray:
    """Return the sites in the order of the Fiedler vector, refined by moves of single sites.

    Parameters
    ----------
    weights : array (sites, sites)
        Symmetric and nonnegative; the diagonal does not matter.
    refine : bool
        Whether to lower :func:`arrangement_cost` after that.

    Returns
    -------
    int array (sites,)
        The sites from left to right. Sites without any connection between them are ordered each
        group by itself, and groups follow by their first site. What weights leave open (ties, an
        eigenvalue with several vectors, the direction) is decided for the order closest to the one
        that is given: sites that all depend on each other alike stay where they are.

    Raises
    ------
    ValueError
        If ``weights`` are not a symmetric matrix of finite nonnegative numbers.

    Examples
    --------
    >>> chain = np.diag(np.ones(3), 1)
    >>> shuffled = (chain + chain.T)[np.ix_([2, 0, 3, 1], [2, 0, 3, 1])]
    >>> spectral_order(shuffled).tolist()  # where 0, 1, 2, 3 are now
    [1, 3, 0, 2]
    >>> spectral_order(np.ones((4, 4))).tolist(), spectral_order(np.zeros((3, 3))).tolist()
    ([0, 1, 2, 3], [0, 1, 2])
    """
    weights = check_weights(weights)
    connected = weights > _ZERO * weights.max(initial=0.0)
    _, label = connected_components(connected, directed=False)
    order = []
    for name in dict.fromkeys(label.tolist()):  # by the first site
        own = np.flatnonzero(label == name)
        inner = _sorted_by_fiedler(weights[np.ix_(own, own)])
        if refine:
            inner = refined(weights[np.ix_(own, own)], inner)
        order.append(own[closer_to_given(inner)])
    return np.concatenate(order)


def arrangement_cost(weights: np.ndarray, order: np.ndarray) -> float:
    """Return the sum of weights times distances of an order.

    Parameters
    ----------
    weights : array (sites, sites)
    order : int array (sites,)

    Examples
    --------
    >>> arrangement_cost(np.array([[0, 1, 5], [1, 0, 0], [5, 0, 0]]), [0, 1, 2])
    11.0
    >>> arrangement_cost(np.array([[0, 1, 5], [1, 0, 0], [5, 0, 0]]), [1, 0, 2])
    6.0
    """
    place = np.empty(len(order), dtype=np.int64)
    place[np.asarray(order)] = np.arange(len(order))
    return float(np.sum(np.triu(weights, 1) * np.abs(place[:, None] - place)))


def refined(weights: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Move single sites elsewhere as long as that lowers the cost, the best move first."""
    order = np.array(order)
    least = 1e-10 * weights.sum()
    while len(order) > 1:
        own = weights[np.ix_(order, order)]
        right, left = _moves(own), _moves(own[::-1, ::-1])
        gains = np.minimum(right, left[::-1, ::-1])
        start, end = np.unravel_index(np.argmin(gains), gains.shape)
        if gains[start, end] >= -least:
            break
        site = order[start]
        order = np.insert(np.delete(order, start), end, site)
    return order


def _moves(w: np.ndarray) -> np.ndarray:
    r"""Return the change of cost (from, to) for moving a site to the right; 0 for other moves.

    On its way from p the site a passes every b = k + 1. Then the cut between them alone changes:
    the set S = {0 ... k} without a on its left is joined by b in place of a. A cut has the weight
    w(S + x) = w(S) + deg(x) - 2 w(x, S), so it changes by
    deg(b) - 2 w(b, S) - deg(a) + 2 w(a, S).
    """
    L = len(w)
    degree, sums = w.sum(1), np.cumsum(w, axis=1)  # sums[i, k] = w(i, {0 ... k})
    b = np.arange(1, L)
    new = degree[b] - 2 * (sums[b, b - 1] - w[:, b])  # (from, k): w(b, S) without a itself
    old = degree[:, None] - 2 * sums[:, :-1]
    steps = np.triu(new - old)  # k >= from
    return np.concatenate([np.zeros((L, 1)), np.cumsum(steps, axis=1)], axis=1) * np.triu(
        np.ones((L, L)), 1
    )


def _sorted_by_fiedler(weights: np.ndarray) -> np.ndarray:
    """Return the sites of a connected graph, sorted by the Fiedler vector."""
    L = len(weights)
    if L < 3:
        return np.arange(L)
    weights = weights / weights.max()
    values, vectors = np.linalg.eigh(np.diag(weights.sum(1)) - weights)
    second = vectors[:, 1:][:, values[1:] <= values[1] + _TIE * values[-1]]
    given = np.arange(L) - (L - 1) / 2
    # of several vectors, that closest to the given order; of one, its sign
    near = second @ (second.T @ given)
    vector = near if np.linalg.norm(near) > _TIE * np.linalg.norm(given) else second[:, 0]
    ranks = np.round(vector / np.abs(vector).max() / _TIE)
    return np.argsort(ranks, kind="stable")


def closer_to_given(order: np.ndarray) -> np.ndarray:
    """Return an order or its reverse, whichever is closer to 0, 1, 2, ...

    Examples
    --------
    >>> print(closer_to_given(np.array([2, 1, 0])))
    [0 1 2]
    """
    given = np.arange(len(order)) - (len(order) - 1) / 2
    likeness = float(given @ order)
    reverse = likeness < 0 or (likeness == 0 and order[0] > order[-1])
    return order[::-1] if reverse else order


def check_weights(weights: np.ndarray) -> np.ndarray:
    """Return weights in double precision without their diagonal, or raise ``ValueError``."""
    weights = np.array(weights, dtype=np.float64)
    if weights.ndim != 2 or weights.shape[0] != weights.shape[1] or len(weights) == 0:
        raise ValueError(f"weights has shape {weights.shape}, expected (sites, sites)")
    np.fill_diagonal(weights, 0.0)
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("weights has entries that are negative or not finite")
    if not np.allclose(weights, weights.T, rtol=1e-6, atol=1e-12 * float(weights.max())):
        raise ValueError("weights is not symmetric; give (weights + weights.T) / 2")
    return (weights + weights.T) / 2
