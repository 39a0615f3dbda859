r"""Contractions over the sites of chains, in log scale: the sweep that all contractions share.

An *environment* is the contraction of everything on one side of a cut, with the bonds at the cut
open. A sweep absorbs site after site into it. Products over hundreds of sites leave the range of
any floating dtype, so that after every site each sample is divided by its largest modulus, whose
logarithms add up beside it.

What is contracted is up to the step, ``step(array, site) -> array``:

===================  =======================  ===========================================
step                 environment              absorbs
===================  =======================  ===========================================
``absorb_pair``      (batch, first, second)   a site of two states
``absorb_weight``    (batch, weight, state)   a site of an MPS shared by the batch and a state
``absorb_sandwich``  (batch, bra, op, ket)    a site of two states with an operator between
``extend_overlap``   (batch, bra, ket)        a site of two lazy terms, each with joint bonds
===================  =======================  ===========================================

All but the last have a twin that absorbs from the right, ``absorb_pair_right`` and so on.
No step conjugates: for a bra, pass its conjugate.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from autoray import do

from ..arrays.backend import Array, is_complex
from ..arrays.functions import log, matrix_transpose, permute, stack, sum_over
from ..arrays.scales import log_where, peak
from .magnitude import divide_node, divide_state
from .terms import Cores, Term, extend_overlap

Step = Callable[[Array, int], Array]
"""Environment (batch, ...) and the number of a site: the environment with that site absorbed."""


class Environment(NamedTuple):
    """Contraction of everything on one side of a cut, ``array * exp(log_scale)``.

    Attributes
    ----------
    array : array (batch, ...)
        The open bonds are its other axes. The largest modulus of a sample is 1, or 0.
    log_scale : array (batch,)
        Natural logarithm, in double precision where the backend has it. It is a constant of
        differentiation: ``array`` alone carries the gradient of the product.
    """

    array: Array
    log_scale: Array


# ---- the sweep -----------------------------------------------------------------------------------


def absorb_sites(step: Step, edge: Array, sites: Iterable[int]) -> Environment:
    """Absorb sites into an environment, one after another.

    Parameters
    ----------
    step : callable
        ``step(array, site) -> array``.
    edge : array (batch, ...)
        Environment to start from; ones of bond 1 at an end of the chain.
    sites : iterable of int
        In the order in which they are absorbed.

    Returns
    -------
    Environment

    Examples
    --------
    The norm of a product state of 1000 sites, which double precision cannot hold:

    >>> import numpy as np
    >>> cores = [np.full((1, 1, 2, 1), 3.0)] * 1000
    >>> step = lambda env, k: absorb_pair(env, cores[k], cores[k])
    >>> array, log_scale = absorb_sites(step, np.ones((1, 1, 1)), range(1000))
    >>> print(array, log_scale / np.log(18.0))
    [[[1.]]] [1000.]
    """
    env, scales, sites = edge, [], list(sites)
    for k in sites:
        # one after the other: their product may be too small for the dtype
        env = step(env, k)
        scale = peak(env)  # (batch, 1, ...)
        scales.append(scale)
        env = env / scale
    if not sites:
        return Environment(edge, _no_logarithm(edge))
    return Environment(env, sum_over(_logarithms(scales), (1,)))


def absorb_each(
    step: Step, edge: Array, sites: Iterable[int], tops: Sequence[Array] = (), power: int = 1
) -> list[Environment]:
    """Return the environments before, between and after the sites that are absorbed.

    Parameters
    ----------
    step, edge, sites
        As of :func:`absorb_sites`.
    tops : sequence of array (batch or 1, 1, ...), optional
        What the arrays that a site contributes have been divided by, site by site.
    power : int
        Number of the arrays of a site that have been divided by it.

    Returns
    -------
    list of Environment
        One more than there are sites; the first is the edge.
    """
    arrays, scales, sites = [edge], [], list(sites)
    for k in sites:
        env = step(arrays[-1], k)
        scale = peak(env)  # (batch, 1, ...)
        arrays.append(env / scale)
        scales.append(scale)
    start = Environment(edge, _no_logarithm(edge))
    if not sites:
        return [start]
    logs = _logarithms(scales)  # (batch, sites)
    if tops:
        logs = logs + power * _logarithms([tops[k] for k in sites])
    totals = do("cumsum", logs, 1)
    rest = (Environment(array, totals[:, n]) for n, array in enumerate(arrays[1:]))
    return [start, *rest]


def rescale(array: Array, log_scale: Array) -> Environment:
    """Divide every sample of ``array * exp(log_scale)`` by its largest modulus."""
    scale = peak(array)  # (batch, 1, ...)
    return Environment(array / scale, log_scale + log(do("reshape", scale, (-1,))))


def _no_logarithm(edge: Array) -> Array:
    return log(do("ones", (edge.shape[0],), like=do("real", edge)))


def _logarithms(scales: list[Array]) -> Array:
    """Return logarithms (batch, sites) of scales (batch, 1, ...), of one site or more.

    All at once: an operation a site would cost more than what it computes.
    """
    return log(stack(scales, 1).reshape(-1, len(scales)))


# ---- two states ----------------------------------------------------------------------------------


def absorb_pair(env: Array, first: Array, second: Array) -> Array:
    """Absorb a site of two states from the left.

    Parameters
    ----------
    env : array (batch, a, b)
    first : array (batch or 1, a, phys, a')
    second : array (batch or 1, b, phys, b')

    Returns
    -------
    array (batch, a', b')
    """
    batch, a, b = env.shape
    right = second.shape[3]
    new = env @ do("reshape", second, (-1, b, second.shape[2] * right))
    new = do("reshape", new, (batch, -1, right))  # (batch, a * phys, b')
    first = do("reshape", first, (-1, a * first.shape[2], first.shape[3]))
    return matrix_transpose(first) @ new


def absorb_pair_right(env: Array, first: Array, second: Array) -> Array:
    """Absorb a site of two states from the right.

    Parameters
    ----------
    env : array (batch, a', b')
    first : array (batch or 1, a, phys, a')
    second : array (batch or 1, b, phys, b')

    Returns
    -------
    array (batch, a, b)
    """
    batch, b = env.shape[0], second.shape[1]
    new = do("reshape", second, (-1, b * second.shape[2], second.shape[3])) @ matrix_transpose(env)
    new = do("reshape", new, (batch, b, -1))  # (batch, b, phys * a')
    return do("reshape", first, (-1, first.shape[1], new.shape[2])) @ matrix_transpose(new)


def overlap(bra: Cores, ket: Cores) -> tuple[Array, Array]:
    """Compute the inner products of two batched chains in log scale.

    Parameters
    ----------
    bra, ket : tuple of array (batch, left, phys, right)
        The bra is conjugated; batch sizes equal or 1.

    Returns
    -------
    value, log_scale : array (batch,)
        The inner products are ``value * exp(log_scale)``; ``log_scale`` carries no gradient,
        and need not: its total with ``value`` has the right one.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS.from_dense(np.array([[3.0, 0.0, 0.0, 4.0]]), (2, 2))
    >>> value, log_scale = overlap(x.cores, x.cores)
    >>> print((value * np.exp(log_scale)).round(6))
    [25.]
    """
    if len(bra) != len(ket):
        raise ValueError(f"bra has {len(bra)} sites and ket {len(ket)}; both need the same")
    batch = max(bra[0].shape[0], ket[0].shape[0])
    edge = do("ones", (batch, 1, 1), like=ket[0])
    small, log_ket, _ = divide_state(ket)
    # of the bra itself no square is taken, also not in gradients
    same = all(a is b for a, b in zip(bra, ket, strict=True))
    first, log = (small, 2.0 * log_ket) if same else (bra, log_ket)
    first = conjugated(first)
    env, log_scale = absorb_sites(
        lambda env, k: absorb_pair(env, first[k], small[k]), edge, range(len(ket))
    )
    return do("reshape", env, (-1,)), log_scale + log


def conjugated(cores: Cores) -> Cores:
    """Conjugate every core of a chain."""
    return tuple(do("conj", core) for core in cores) if is_complex(cores[0]) else cores


# ---- an MPS shared by the batch, and a state -----------------------------------------------------


def absorb_weight(env: Array, weight: Array, core: Array) -> Array:
    """Absorb a site of a shared MPS and of a state from the left.

    Parameters
    ----------
    env : array (batch, wl, xl)
    weight : array (wl, phys, wr)
    core : array (batch, xl, phys, xr)

    Returns
    -------
    array (batch, wr, xr)
    """
    batch, xl, _, xr = core.shape
    new = env @ do("reshape", core, (batch, xl, -1))  # (batch, wl, phys*xr)
    new = do("reshape", new, (batch, -1, xr))  # (batch, wl*phys, xr)
    flat = do("reshape", weight, (-1, weight.shape[2]))  # (wl*phys, wr)
    return matrix_transpose(matrix_transpose(new) @ flat)


def absorb_weight_right(env: Array, weight: Array, core: Array) -> Array:
    """Absorb a site of a shared MPS and of a state from the right.

    Parameters
    ----------
    env : array (batch, wr, xr)
    weight : array (wl, phys, wr)
    core : array (batch, xl, phys, xr)

    Returns
    -------
    array (batch, wl, xl)
    """
    batch, xl, _, xr = core.shape
    new = do("reshape", core, (batch, -1, xr)) @ matrix_transpose(env)  # (batch, xl*phys, wr)
    new = do("reshape", new, (batch, xl, -1))  # (batch, xl, phys*wr)
    flat = do("reshape", weight, (weight.shape[0], -1))  # (wl, phys*wr)
    return matrix_transpose(new @ matrix_transpose(flat))


# ---- an operator between two states --------------------------------------------------------------


def absorb_sandwich(env: Array, first: Array, weight: Array, second: Array) -> Array:
    """Absorb a site of two states and of the operator between them from the left.

    Parameters
    ----------
    env : array (batch, i, a, j)
    first : array (batch or 1, i, out, m)
    weight : array (a, out, in, c)
    second : array (batch or 1, j, in, k)

    Returns
    -------
    array (batch, m, c, k)
    """
    batch, i, a, j = env.shape
    _, q, p, c = weight.shape
    k = second.shape[3]
    new = do("reshape", env, (batch, i * a, j)) @ do("reshape", second, (-1, j, p * k))
    new = permute(do("reshape", new, (batch, i, a, p, k)), 0, 1, 4, 2, 3)  # (batch, i, k, a, p)
    flat = do("reshape", permute(weight, 0, 2, 1, 3), (a * p, q * c))
    new = do("reshape", new, (batch, i * k, a * p)) @ flat  # (batch, i*k, q*c)
    new = permute(do("reshape", new, (batch, i, k, q, c)), 0, 1, 3, 4, 2)  # (batch, i, q, c, k)
    first = matrix_transpose(do("reshape", first, (-1, i * q, first.shape[3])))  # (batch, m, i*q)
    new = first @ do("reshape", new, (batch, i * q, c * k))  # (batch, m, c*k)
    return do("reshape", new, (batch, -1, c, k))


def absorb_sandwich_right(env: Array, first: Array, weight: Array, second: Array) -> Array:
    """Absorb a site of two states and of the operator between them from the right.

    Parameters
    ----------
    env : array (batch, m, c, k)
    first : array (batch or 1, i, out, m)
    weight : array (a, out, in, c)
    second : array (batch or 1, j, in, k)

    Returns
    -------
    array (batch, i, a, j)
    """
    batch, m, c, k = env.shape
    a, q, p, _ = weight.shape
    j = second.shape[1]
    env = matrix_transpose(do("reshape", env, (batch, m * c, k)))  # (batch, k, m*c)
    new = do("reshape", second, (-1, j * p, k)) @ env  # (batch, j*p, m*c)
    new = permute(do("reshape", new, (batch, j, p, m, c)), 0, 1, 3, 2, 4)  # (batch, j, m, p, c)
    flat = do("reshape", permute(weight, 2, 3, 0, 1), (p * c, a * q))
    new = do("reshape", new, (batch, j * m, p * c)) @ flat  # (batch, j*m, a*q)
    new = permute(do("reshape", new, (batch, j, m, a, q)), 0, 4, 2, 3, 1)  # (batch, q, m, a, j)
    first = do("reshape", first, (-1, first.shape[1], q * m))  # (batch, i, q*m)
    new = first @ do("reshape", new, (batch, q * m, a * j))  # (batch, i, a*j)
    return do("reshape", new, (batch, -1, a, j))


# ---- lazy terms ----------------------------------------------------------------------------------


def overlaps_of_terms(terms: Sequence[Term]) -> Iterator[tuple[int, int, Array, Array]]:
    """Compute the inner products of all pairs of terms in log scale, their scales left out.

    Tensor by tensor, with both bonds of an operator and of its state open: for bonds D and chi
    that takes a fraction of the work and of the memory of the merged chain, whose bond is their
    product.

    Parameters
    ----------
    terms : sequence of Term

    Yields
    ------
    bra, ket : int
        Numbers of the terms, ``bra <= ket``; the bra is conjugated.
    value, log_scale : array (batch,)
    """
    units = [divide_node(term.node)[:2] for term in terms]
    for n, (second, own) in enumerate(units):
        for m, (first, other) in enumerate(units[: n + 1]):
            bra, ket = Term(first), Term(second)
            edge = do("ones", (max(bra.batch_size, ket.batch_size), 1, 1), like=ket.like)
            step = partial(extend_overlap, bra, ket)
            env, log_scale = absorb_sites(step, edge, range(ket.L))
            yield m, n, do("reshape", env, (-1,)), log_scale + own + other


def squared_norm(terms: tuple[Term, ...]) -> tuple[Array, Array]:
    """Compute the squared norms of a sum of terms in log scale, exactly.

    Parameters
    ----------
    terms : tuple of Term
        Same sites and physical dimensions; batch sizes equal or 1.

    Returns
    -------
    value, log_scale : array (batch,)
        The squared norms are ``value * exp(log_scale)``; ``value`` is real.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS.from_dense(np.array([[3.0, 0.0, 0.0, 4.0]]), (2, 2))
    >>> value, log_scale = squared_norm((x + 2.0 * x).terms)
    >>> print((value * np.exp(log_scale)).round(6))
    [225.]
    """
    parts = []
    for m, n, value, log_scale in overlaps_of_terms(terms):
        value = do("real", value * _conjugate(terms[m].scale) * terms[n].scale)
        # what is zero does not say how large the others are
        log_scale = log_where(do("abs", value) > 0, log_scale)
        parts.append((value if m == n else 2.0 * value, log_scale))
    top = parts[0][1]
    for _, log_scale in parts[1:]:
        top = do("where", log_scale > top, log_scale, top)
    return sum(value * do("exp", log_scale - top) for value, log_scale in parts), top


def _conjugate(scale: Array) -> Array:
    return scale.conjugate() if isinstance(scale, (int, float, complex)) else do("conj", scale)
