r"""bond_profile: a bond for every cut, for a given number of parameters.

Cut k of a chain has normalized squared singular values :math:`p_1 \ge p_2 \ge \dots`; keeping
:math:`\chi_k` of them loses :math:`\sum_{n>\chi_k} p_n`. A chain whose sites have :math:`d_k`
entries for every pair of bonds has :math:`\sum_k \chi_{k-1} d_k \chi_k` parameters. With a price
:math:`\lambda` of a parameter,

.. math:: \sum_k \Bigl( \sum_{n > \chi_k} p_n^{(k)} + \lambda\, \chi_{k-1} d_k \chi_k \Bigr)

is a sum over neighbouring cuts, and least for bonds found from left to right: the least cost of all
cuts up to k, given :math:`\chi_k`, follows from that up to k - 1 (Viterbi's algorithm). Its minimum
loses the least of all bonds with as many parameters (Everett 1963). The price is
found by bisection, and what is left of the budget goes to the bonds that gain most by a parameter.
"""

from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np

from ..arrays.backend import to_numpy
from ..chains.bonds import cut_bonds
from ..chains.dims import check_dims, check_positive
from ..chains.entanglement import bond_spectra
from ..chains.states import MPS
from .information import check_samples, check_states
from .mean_state import mean_spectra

BY = ("spectra", "entropy")
_NEAR = 4
"""Cuts between two whose bonds are exchanged, at most."""

_ALL = 48
"""Bonds up to this one are all looked at, larger ones in steps of a sixteenth."""


def bond_profile(
    data: Any, params: int, dims: Sequence[int] | None = None, by: str = "spectra"
) -> tuple[int, ...]:
    r"""Return a bond for every cut that suits data, at most with a number of parameters.

    Parameters
    ----------
    data : MPS or array (samples, sites)
        Training data only, in the order of the sites. Of states, the Schmidt coefficients of every
        cut, mean squares over the samples. Of an array, those of the mean state of its first 512
        samples, see :mod:`ftnn.structure.mean_state`.
    params : int
        Parameters of the whole chain, at most.
    dims : sequence of int, optional
        Entries of a core for every pair of bonds: of an MPS ``phys``, of an MPO ``out * in``. By
        default the physical dimensions of the states, and 2 for every column.
    by : {"spectra", "entropy"}
        "spectra" loses the least squared norm, summed over the cuts; see
        :mod:`ftnn.structure.bonds`. "entropy" takes bonds in proportion to :math:`e^S`, with S the
        mean entropy of a cut: the number of directions if all had the same weight.

    Returns
    -------
    tuple of int
        ``sites - 1`` of them, to be given as ``max_bond`` or ``bond_dim``. Each is at most what
        the sites on either side can carry. No bond can be raised without exceeding ``params``.

    Raises
    ------
    TypeError
        If ``data`` is neither states nor numbers.
    ValueError
        If ``params`` does not suffice for bonds of 1, or data or dims do not fit.

    Examples
    --------
    >>> import ftnn
    >>> t = np.linspace(0, 1, 64, endpoint=False)
    >>> bumps = np.stack([np.exp(-((t - c) ** 2) / 0.02) for c in t[::8]])
    >>> x = ftnn.MPS.from_dense(bumps, (2,) * 6)
    >>> bonds = bond_profile(x, params=100)
    >>> bonds, num_params(x.phys_dims, bonds)
    ((2, 4, 4, 3, 2), 92)
    """
    if by not in BY:
        raise ValueError(f"by is {by!r}; choose one of {', '.join(BY)}")
    if isinstance(data, MPS):
        check_states(data)
        squares = [to_numpy(s * s) for s in bond_spectra(data.cores)]
        spectra, entropies = [p.mean(0) for p in squares], [_entropy(p) for p in squares]
        own: tuple[int, ...] = data.phys_dims
    else:
        values = check_samples(data)
        spectra = mean_spectra(values)
        entropies = [_entropy(s[None]) for s in spectra]
        own = (2,) * values.shape[1]
    dims = own if dims is None else check_dims(dims, "dims")
    check_positive(params, "params")
    if len(dims) != len(own):
        raise ValueError(f"dims has {len(dims)} entries, but data has {len(own)} sites")
    if params < sum(dims):
        raise ValueError(
            f"params is {params}, but a chain of dims {dims} has {sum(dims)} parameters with bonds "
            "of 1; allow as many, or choose smaller dims"
        )
    most = cut_bonds(dims, params)[1:-1]  # a core has its larger bond times its dim of entries
    if by == "entropy":
        gains = [np.exp(S) / np.arange(1, m + 1) for S, m in zip(entropies, most, strict=True)]
        bonds = _proportional(np.exp(entropies), dims, most, params)
        return tuple(_filled(bonds, gains, dims, params))
    gains = [_padded(s, limit) for s, limit in zip(spectra, most, strict=True)]
    uniform = _proportional(np.ones(len(most)), dims, most, params)
    starts = [_cheapest(gains, dims, most, params), uniform]
    filled = [_filled(start, gains, dims, params) for start in starts]
    found = [_exchanged(start, gains, dims, params) for start in filled]
    first, second = found
    return tuple(first if _held(first, gains) >= _held(second, gains) else second)


def num_params(dims: Sequence[int], bonds: Sequence[int]) -> int:
    """Count the parameters of a chain.

    Parameters
    ----------
    dims : sequence of int
        Entries of a core for every pair of bonds.
    bonds : sequence of int
        ``len(dims) - 1`` of them.

    Examples
    --------
    >>> num_params((2, 3, 2), (2, 4))
    36
    """
    return sum(a * d * b for d, (a, b) in zip(dims, pairwise((1, *bonds, 1)), strict=True))


def _entropy(p: np.ndarray) -> float:
    """Return the mean entropy of probabilities (batch, n)."""
    return float(-np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=1).mean())


def _padded(p: np.ndarray, limit: int) -> np.ndarray:
    """Return what every direction up to a limit holds; a little where data have nothing."""
    held = np.zeros(limit)
    held[: min(limit, len(p))] = p[:limit]
    return held + 1e-15 / np.arange(1.0, limit + 1) ** 3  # convex: evens out bonds


def _proportional(
    sizes: np.ndarray, dims: Sequence[int], most: Sequence[int], params: int
) -> list[int]:
    """Return bonds in proportion to sizes, with at most ``params`` parameters."""

    def bonds_of(factor: float) -> list[int]:
        wanted = [max(1, min(m, round(factor * s))) for m, s in zip(most, sizes, strict=True)]
        return _carried(wanted, dims)

    low, high = 0.0, float(params)
    for _ in range(60):
        middle = (low + high) / 2
        if num_params(dims, bonds_of(middle)) <= params:
            low = middle
        else:
            high = middle
    return bonds_of(low)


def _cheapest(
    gains: list[np.ndarray], dims: Sequence[int], most: Sequence[int], params: int
) -> list[int]:
    """Return the bonds that lose the least at the lowest price of parameters within the budget."""
    choices = [_choices(limit) for limit in most]
    lost = [g.sum() - np.cumsum(g)[c - 1] for g, c in zip(gains, choices, strict=True)]
    low, high = -80.0, 5.0  # logarithms of the price: of no loss counted, of bonds of 1
    best = [1] * len(most)
    for _ in range(40):
        middle = (low + high) / 2
        bonds = _path(lost, choices, dims, np.exp(middle))
        if num_params(dims, bonds) <= params:
            high, best = middle, bonds
        else:
            low = middle
    return best


def _choices(limit: int) -> np.ndarray:
    """Return the bonds that are looked at, ascending."""
    found = list(range(1, min(limit, _ALL) + 1))
    while found[-1] < limit:
        found.append(min(limit, found[-1] + max(1, found[-1] // 16)))
    return np.array(found)


def _path(
    lost: list[np.ndarray], choices: list[np.ndarray], dims: Sequence[int], price: float
) -> list[int]:
    """Return the bonds of least loss and price: the shortest path through the cuts."""
    before, cost = np.ones(1, dtype=np.int64), np.zeros(1)
    came = []
    for k, own in enumerate(choices):
        step = cost[:, None] + price * dims[k] * before[:, None] * own  # (before, own)
        # more than the neighbours carry is of no use
        step[(own > dims[k] * before[:, None]) | (before[:, None] > dims[k] * own)] = np.inf
        came.append(step.argmin(0))
        cost, before = step.min(0) + lost[k], own
    cost = cost + price * dims[-1] * before
    cost[before > dims[-1]] = np.inf
    place = int(cost.argmin())
    bonds = []
    for own, back in zip(reversed(choices), reversed(came), strict=True):
        bonds.append(int(own[place]))
        place = int(back[place])
    return bonds[::-1]


def _filled(
    bonds: list[int], gains: list[np.ndarray], dims: Sequence[int], params: int
) -> list[int]:
    """Raise single bonds, that with the largest gain by a parameter first, until none fits."""
    bonds = list(bonds)
    while True:
        rest = params - num_params(dims, bonds)
        around = (1, *bonds, 1)
        best, chosen = 0.0, None
        for k, bond in enumerate(bonds):
            left, right = around[k], around[k + 2]
            price = dims[k] * left + dims[k + 1] * right
            carried = min(len(gains[k]), dims[k] * left, dims[k + 1] * right)
            if bond < carried and price <= rest and gains[k][bond] / price > best:
                best, chosen = gains[k][bond] / price, k
        if chosen is None:
            return bonds
        bonds[chosen] += 1


def _exchanged(
    bonds: list[int], gains: list[np.ndarray], dims: Sequence[int], params: int
) -> list[int]:
    """Lower a bond, raise one near it, and fill up anew, as long as more is held then."""
    best, cuts = _held(bonds, gains), range(len(bonds))
    pairs = [(k, j) for k in cuts for j in cuts if k != j and abs(k - j) <= _NEAR]
    improved = True
    while improved:
        improved = False
        for (down, up), less, more in product(pairs, (1, 2), (1, 2)):
            new = list(bonds)
            new[down], new[up] = bonds[down] - less, min(bonds[up] + more, len(gains[up]))
            if new[down] < 1 or num_params(dims, new := _carried(new, dims)) > params:
                continue
            new = _filled(new, gains, dims, params)
            held = _held(new, gains)
            if held > best + 1e-12:
                bonds, best, improved = new, held, True
    return bonds


def _carried(bonds: list[int], dims: Sequence[int]) -> list[int]:
    """Cut bonds to what their neighbours carry."""
    for k, dim in enumerate(dims[:-1]):
        bonds[k] = min(bonds[k], dim * (bonds[k - 1] if k else 1))
    for k in range(len(bonds) - 1, -1, -1):
        bonds[k] = min(bonds[k], dims[k + 1] * (bonds[k + 1] if k + 1 < len(bonds) else 1))
    return bonds


def _held(bonds: Sequence[int], gains: list[np.ndarray]) -> float:
    """Return the squared norm that bonds keep, summed over the cuts."""
    return float(sum(g[:bond].sum() for g, bond in zip(gains, bonds, strict=True)))
