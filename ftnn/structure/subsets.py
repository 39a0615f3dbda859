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

from itertools import combinations

import numpy as np

from ..arrays.backend import to_numpy
from ..chains.bonds import check_memory
from ..chains.states import MPS
from .arrangement import check_weights
from .information import check_states

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
    >>> costs = set_costs(np.array([[0, 1, 5], [1, 0, 0], [5, 0, 0]]))
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


def set_costs(data: MPS | np.ndarray, max_bond: int | None = None) -> np.ndarray:
    """Return the cost of every set of sites, if it is what is left of a cut.

    Parameters
    ----------
    data : MPS, or array (sites, sites)
        States, of which 2**sites are small enough to be dense; or weights between pairs of sites:
        then the cost is the weight between the set and the others.
    max_bond : int, optional
        Of states, the bond kept at a cut: the cost is the share of the squared norm that is
        discarded. By default it is the entropy, in nats. Both are means over the samples.

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
    if not isinstance(data, MPS):
        return _weight_costs(check_weights(data))
    check_states(data)
    L, dims = check_few(data.L), data.phys_dims
    size = int(np.prod(dims, dtype=np.float64))
    check_memory([(data.batch_size, size)] * 3, "data", 16)
    x = to_numpy(data.to_dense())
    x = x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    x = (x / np.where(norms > 0, norms, 1.0)).reshape(len(x), *dims)
    costs = np.zeros(2**L)
    for count in range(1, L):
        for chosen in combinations(range(1, L), count):  # the others are complements
            index = sum(1 << i for i in chosen)
            p = _probabilities(x, chosen)
            cost = float(_discarded(p, max_bond).mean())
            costs[index] = costs[2**L - 1 - index] = cost
    return costs


def check_few(sites: int) -> int:
    """Return the number of sites, or raise ``ValueError`` if there are too many for all sets."""
    if sites > MOST_SITES:
        raise ValueError(
            f"data has {sites} sites, and the exact order looks at 2^{sites} sets of them; "
            f"expected at most {MOST_SITES}, or choose method 'spectral'"
        )
    return sites


def _probabilities(x: np.ndarray, chosen: tuple[int, ...]) -> np.ndarray:
    """Return the squared Schmidt coefficients (batch, n) across a set of sites, ascending."""
    inside = [i + 1 for i in chosen]
    outside = [i for i in range(1, x.ndim) if i not in inside]
    size = int(np.prod([x.shape[i] for i in inside]))
    matrix = x.transpose(0, *inside, *outside).reshape(len(x), size, -1)  # (batch, in, out)
    if matrix.shape[1] > matrix.shape[2]:
        matrix = matrix.swapaxes(1, 2)
    return np.linalg.eigvalsh(matrix @ matrix.conj().swapaxes(1, 2)).clip(0.0)


def _discarded(p: np.ndarray, max_bond: int | None) -> np.ndarray:
    """Return the entropies (batch,) of ascending probabilities (batch, n), or what is cut off."""
    if max_bond is not None:
        return p[:, : max(0, p.shape[1] - max_bond)].sum(1)
    return -np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=1)


def _weight_costs(weights: np.ndarray) -> np.ndarray:
    """Return the weight between every set and the others: of {i, ...} from that of the rest."""
    L = check_few(len(weights))
    costs, degree = np.zeros(2**L), weights.sum(1)
    inner = np.zeros((2**L, L))  # weight between every site and the set
    for i in range(L):
        old, new = slice(0, 1 << i), slice(1 << i, 1 << (i + 1))
        costs[new] = costs[old] + degree[i] - 2 * inner[old, i]
        inner[new] = inner[old] + weights[i]
    return costs.clip(0.0)
