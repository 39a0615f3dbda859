"""Chains and arrays with their sites in another order."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from autoray import do

from ..arrays.backend import Array, as_dtype_of
from ..arrays.functions import permute
from ..chains.absorption import absorb_state
from ..chains.bonds import check_rank
from ..chains.canonical import canonical_cores, isometry, reverse_chain
from ..chains.dims import check_order
from ..chains.states import MPS
from ..chains.terms import Cores
from ..chains.tt_svd import truncated_svd


def inverse_order(order: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the order that undoes another one.

    Parameters
    ----------
    order : sequence of int
        Every site once.

    Examples
    --------
    >>> order = np.array([2, 0, 3, 1])
    >>> print(inverse_order(order), order[inverse_order(order)])
    [1 3 0 2] [0 1 2 3]
    """
    order = check_order(order)
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    return inverse


def permute_sites(
    data: Any,
    order: Sequence[int] | np.ndarray,
    rtol: float = 0.0,
) -> Any:
    r"""Return data with its sites in another order.

    Parameters
    ----------
    data : MPS or array (samples, sites)
    order : sequence of int
        Site k of the result is the site ``order[k]`` of ``data``; :func:`inverse_order` leads back.
    rtol : float
        Of states, the relative error allowed for each sample, shared by the exchanges of
        neighbouring sites; 0 is exact to rounding.

    Returns
    -------
    MPS or array (samples, sites)
        Of the kind of ``data``. The bonds of states grow to what the new order needs.

    Raises
    ------
    TypeError
        If ``data`` is neither states nor an array.
    ValueError
        If ``order`` does not name every site once.

    Notes
    -----
    A product state is reordered as it is. Other states are by exchanging neighbours: both sites
    are contracted, and parted the other way round by an SVD, with the norm in the two: what is cut
    off there is the error. In an order with n inversions that is n SVDs.

    Examples
    --------
    >>> import ftnn
    >>> dense = np.random.default_rng(0).standard_normal((5, 2, 3, 4))
    >>> x = ftnn.MPS.from_dense(dense.reshape(5, 24), (2, 3, 4))
    >>> y = permute_sites(x, [2, 0, 1])
    >>> y.phys_dims, bool(np.allclose(y.to_dense(), dense.transpose(0, 3, 1, 2).reshape(5, 24)))
    ((4, 2, 3), True)
    >>> permute_sites(np.array([[10, 20, 30]]), [2, 0, 1])
    array([[30, 10, 20]])
    """
    if isinstance(data, MPS):
        check_rank(None, rtol, data.L)
        return MPS(_permuted(data.cores, check_order(order, data.L), rtol))
    shape = getattr(data, "shape", None)
    if shape is None:
        raise TypeError(
            f"data is a {type(data).__name__}, expected an MPS, or an array (samples, sites)"
        )
    if len(shape) != 2:
        raise ValueError(f"data has shape {tuple(shape)}, expected (samples, sites)")
    return data[:, check_order(order, shape[1])]


def _permuted(cores: Cores, order: np.ndarray, rtol: float) -> Cores:
    """Return the cores in another order."""
    if all(core.shape[1] == core.shape[3] == 1 for core in cores):
        return tuple(cores[k] for k in order)
    exchanges = _exchanges(inverse_order(order).tolist())
    if not exchanges:
        return cores
    center = exchanges[0]
    canonical, log_norm = canonical_cores(cores, center)
    chain = list(canonical)
    budget = rtol**2 / len(exchanges) * do("ones_like", log_norm) if rtol > 0 else None
    for k in exchanges:
        for site in range(center, k):
            _pass_right(chain, site)
        for site in range(center, k + 1, -1):
            _pass_left(chain, site)
        _exchange(chain, k, budget)
        center = k
    scale = do("exp", log_norm / len(chain))  # of every core: that of the whole may overflow
    return tuple(core * as_dtype_of(scale, core)[:, None, None, None] for core in chain)


def _exchanges(places: list[int]) -> list[int]:
    """Return the sites k that change places with k + 1, one after the other, to sort places.

    Examples
    --------
    >>> _exchanges([2, 0, 1])
    [0, 1]
    """
    places, found = list(places), []
    for end in range(1, len(places)):
        for k in range(end - 1, -1, -1):
            if places[k] < places[k + 1]:
                break
            places[k], places[k + 1] = places[k + 1], places[k]
            found.append(k)
    return found


def _exchange(chain: list[Array], k: int, budget: Array | None) -> None:
    """Exchange the sites k and k + 1, one of which is the center; k is the center then."""
    first, second = chain[k], chain[k + 1]
    batch, left, p, _ = first.shape
    q, right = second.shape[2:]
    rows = do("reshape", first, (batch, left * p, -1))
    both = rows @ do("reshape", second, (batch, second.shape[1], -1))  # (batch, l*p, q*r)
    both = permute(do("reshape", both, (batch, left, p, q, right)), 0, 1, 3, 2, 4)
    u, s, vh = truncated_svd(do("reshape", both, (batch, left * q, p * right)), None, budget)
    chain[k] = do("reshape", u * as_dtype_of(s, u)[:, None, :], (batch, left, q, -1))
    chain[k + 1] = do("reshape", vh, (batch, -1, p, right))


def _pass_right(chain: list[Array], k: int) -> None:
    """Make site k an isometry, and k + 1 the center."""
    chain[k], chain[k + 1] = _passed(chain[k], chain[k + 1])


def _pass_left(chain: list[Array], k: int) -> None:
    """Make site k an isometry, and k - 1 the center."""
    pair = _passed(*reverse_chain((chain[k - 1], chain[k])))
    chain[k - 1], chain[k] = reverse_chain(pair)


def _passed(core: Array, after: Array) -> Cores:
    """Return an isometry in place of a core, and the next core with the rest of it."""
    batch, left, phys, right = core.shape
    q, r = isometry(do("reshape", core, (batch, left * phys, right)))
    new = absorb_state(r, after)  # (batch, m * phys, right)
    shape = (batch, -1, *after.shape[2:])
    return do("reshape", q, (batch, left, phys, -1)), do("reshape", new, shape)
