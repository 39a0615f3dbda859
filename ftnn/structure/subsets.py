r"""The best order of few sites, by dynamic programming over sets of sites.

Whatever an order costs at a cut depends on the *set* A of the sites to its left alone: entropies
and singular values across a cut are those of the reduced density matrix of A, in which the order
inside of A is a choice of basis. So for any cost that is a sum over cuts,

.. math:: C(\pi) = \sum_{k=1}^{L-1} f(\{\pi_1, \dots, \pi_k\}),

the orders that start with the sites A in some order go on alike, and the least cost of those,
cuts within and after A included, obeys

.. math:: V(\emptyset) = 0, \qquad V(A) = f(A) + \min_{i \in A} V(A \setminus \{i\}),

with f = 0 for all sites: Held and Karp's recursion, 2^L sets with L choices each, in place of L!
orders. Two costs of states are known for every set: the entropy S(A), and the weight discarded when
only the largest :math:`\chi` Schmidt coefficients across the cut are kept,
:math:`\sum_{k>\chi} s_k^2`. TT-SVD has an error of at most the root of the sum of the latter
(Oseledets 2011, theorem 2.2), and at least that of the largest: the sum is a function of sets, and
within a factor of L - 1 of the squared error itself. Weights between pairs of sites are a third:
f(A) is what leaves A.
"""

import math
from collections.abc import Collection
from itertools import combinations
from typing import Any

import numpy as np

from ..arrays.backend import to_numpy
from ..chains.bonds import check_memory
from ..chains.states import MPS
from .arrangement import check_weights
from .information import check_samples, check_states
from .mean_state import mean_state

MOST_SITES = 12
"""Sites for which all sets are looked at, at most."""


def optimal_order(costs: np.ndarray) -> np.ndarray:
    """Return the order of least cost, summed over the sets left of every cut.

    Parameters
    ----------
    costs : array (2**sites,)
        Cost of every set; bit i of the index tells whether site i is in it. Those of no sites and
        of all of them do not count.

    Returns
    -------
    int array (sites,)
        Of orders that cost the same, one that ends with the last sites.

    Raises
    ------
    ValueError
        If ``costs`` are not finite, or not as many as a power of two.

    Examples
    --------
    >>> costs = weight_costs(np.array([[0, 1, 5], [1, 0, 0], [5, 0, 0]]))
    >>> costs.tolist(), optimal_order(costs).tolist()
    ([0.0, 6.0, 1.0, 5.0, 5.0, 1.0, 6.0, 0.0], [1, 0, 2])
    """
    costs = np.array(costs, dtype=np.float64)
    L = costs.size.bit_length() - 1
    if costs.ndim != 1 or costs.size != 2**L or L < 1:
        raise ValueError(f"costs has shape {costs.shape}, expected (2**sites,)")
    if not np.isfinite(costs).all():
        raise ValueError("costs has entries that are not finite")
    costs[0] = costs[-1] = 0.0
    sets = np.arange(2**L)
    sizes = sum((sets >> i) & 1 for i in range(L))
    best = np.zeros(2**L)
    last = np.zeros(2**L, dtype=np.int64)
    for size in range(1, L + 1):
        own = sets[sizes == size]
        choices = np.full((len(own), L), np.inf)
        for i in range(L):
            has = (own >> i) & 1 == 1
            choices[has, i] = best[own[has] ^ (1 << i)]
        # the last of those that differ by rounding only: order in, order out where nothing matters
        least = choices.min(1)
        near = choices <= (least + 1e-12 * (1.0 + np.abs(least)))[:, None]
        last[own] = L - 1 - np.argmax(near[:, ::-1], axis=1)
        best[own] = costs[own] + least
    order, rest = [], 2**L - 1
    while rest:
        order.append(int(last[rest]))
        rest ^= 1 << order[-1]
    return np.array(order[::-1])


def set_costs(data: Any, max_bond: int | None = None) -> np.ndarray:
    """Return the cost of every set of sites, if it is what is left of a cut.

    Parameters
    ----------
    data : MPS or array (samples, sites)
        States, small enough to be dense; or samples, whose mean state is taken
        (:mod:`ftnn.structure.mean_state`).
    max_bond : int, optional
        Bond kept at a cut: the cost is the share of the squared norm that is discarded. By default
        it is the entropy, in nats. Both are means over the states.

    Returns
    -------
    float64 array (2**sites,)
        Bit i of the index tells whether site i is in the set.

    Raises
    ------
    ValueError
        If there are more than 12 sites, or the dense states do not fit in memory.

    Examples
    --------
    >>> import ftnn
    >>> bell = np.zeros((1, 2, 2, 2))
    >>> bell[0, 0, 0, 0] = bell[0, 1, 0, 1] = 1.0  # of sites 0 and 2
    >>> x = ftnn.MPS.from_dense(bell.reshape(1, 8), (2, 2, 2))
    >>> print(set_costs(x).round(3), set_costs(x, max_bond=1).round(3))
    [0.    0.693 0.    0.693 0.693 0.    0.693 0.   ] [0.  0.5 0.  0.5 0.5 0.  0.5 0. ]
    """
    L = data.L if isinstance(data, MPS) else check_samples(data).shape[1]
    if L > MOST_SITES:
        raise ValueError(
            f"data has {L} sites, and the exact order looks at 2^{L} sets of them; expected at "
            f"most {MOST_SITES}, or choose another method"
        )
    x, costs = dense_states(data), np.zeros(2**L)
    for count in range(1, L):
        for chosen in combinations(range(1, L), count):  # the others are complements
            index = sum(1 << i for i in chosen)
            costs[index] = costs[-1 - index] = set_cost(x, chosen, max_bond)
    return costs


def weight_costs(weights: np.ndarray) -> np.ndarray:
    """Return the weight between every set of sites and the others, array (2**sites,).

    Parameters
    ----------
    weights : array (sites, sites)
        Of 12 sites at most; symmetric.

    Examples
    --------
    >>> weight_costs(np.array([[0, 1, 5], [1, 0, 0], [5, 0, 0]])).tolist()
    [0.0, 6.0, 1.0, 5.0, 5.0, 1.0, 6.0, 0.0]
    """
    weights = check_weights(weights)
    L = len(weights)
    if L > MOST_SITES:
        raise ValueError(f"weights are of {L} sites, expected at most {MOST_SITES}")
    costs, degree = np.zeros(2**L), weights.sum(1)
    inner = np.zeros((2**L, L))  # weight between the set and every site
    for i in range(L):
        old, new = slice(0, 1 << i), slice(1 << i, 1 << (i + 1))
        costs[new] = costs[old] + degree[i] - 2 * inner[old, i]
        inner[new] = inner[old] + weights[i]
    return costs.clip(0.0)


def dense_states(data: Any) -> np.ndarray:
    """Return states of norm 1, or 0: array ``(batch, *dims)``; of samples the mean state."""
    if isinstance(data, MPS):
        check_states(data)
        dims = data.phys_dims
        check_memory([(data.batch_size, math.prod(dims))] * 3, "data", 16)
        x = to_numpy(data.to_dense())
        x = x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)
        x = x.reshape(len(x), *dims)
    else:
        x = mean_state(check_samples(data))
    norms = np.sqrt(np.sum(np.abs(x) ** 2, axis=tuple(range(1, x.ndim)), keepdims=True))
    return x / np.where(norms > 0, norms, 1.0)


def set_cost(x: np.ndarray, chosen: Collection[int], max_bond: int | None) -> float:
    """Return the cost of a cut between some sites and the others of states ``(batch, *dims)``."""
    inside = [i + 1 for i in sorted(chosen)]
    outside = [i for i in range(1, x.ndim) if i not in inside]
    size = math.prod(x.shape[i] for i in inside)
    matrix = x.transpose(0, *inside, *outside).reshape(len(x), size, -1)  # (batch, in, out)
    if matrix.shape[1] > matrix.shape[2]:
        matrix = matrix.swapaxes(1, 2)
    p = np.linalg.eigvalsh(matrix @ matrix.conj().swapaxes(1, 2)).clip(0.0)  # ascending
    if max_bond is not None:
        return float(p[:, : max(0, p.shape[1] - max_bond)].sum(1).mean())
    return float(-np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=1).mean())
