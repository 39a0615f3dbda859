"""linear_readout: a readout that starts as a linear model of the features of product states."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ..arrays.backend import Array, to_numpy
from ..arrays.random import random_generator
from ..chains.dims import check_dims
from ..chains.operators import weight_bonds
from .layer import site_entries
from .readouts import Readout

HIDDEN = 8
"""Default number of free bond channels."""
CHANNEL_RMS = 0.3
"""Root mean square of the bond channels, where features are uncorrelated: small enough that an
optimizer step on the sites of one channel does not multiply up to a large one."""


def linear_readout(
    in_dims: Sequence[int],
    coefficients: Array,
    intercept: Array,
    bond_dim: int | None = None,
    feature_rms: float = 1.0,
    seed: int = 0,
) -> Readout:
    r"""Return a readout whose outputs are a linear model of the features of product states.

    For states with site vectors :math:`(1, \phi_k)` the outputs are exactly
    :math:`y = b + \sum_k C_k \phi_k`, however long the chain. All higher orders, the products of
    features of several sites, start at zero and are free to grow.

    Parameters
    ----------
    in_dims : sequence of int
        Physical dimensions; channel 0 of every site is the constant one.
    coefficients : array (num_outputs, sum(p - 1 for p in in_dims))
        Coefficients of all channels but the constant ones, site by site.
    intercept : array (num_outputs,)
    bond_dim : int, optional
        By default 8 more than the linear model needs, which is its rank over half of the chain,
        at most ``num_outputs``, plus 1. With fewer than it needs, the linear model is that of the
        largest singular values.
    feature_rms : float
        Typical root mean square of a feature, which sets the scale of the bond channels.
    seed : int
        Seed of the free bond channels.

    Returns
    -------
    Readout
        float64, on NumPy.

    Raises
    ------
    ValueError
        If the shapes do not fit together.

    Notes
    -----
    Towards the middle site, a half of the chain carries the vector :math:`(1, s, h)`: partial
    sums :math:`s = \sum_k V_k \phi_k` onto the right singular vectors of the coefficients, and
    random ones :math:`h = \sum_k G_k \phi_k`. A site is

    .. math:: T_k(\phi) = \mathbb{1} + \phi_k N_k, \qquad N_k: 1 \mapsto (0, V_k, G_k),

    so products of sites are sums, which neither explode nor decay. The middle site maps s to
    the outputs and starts with zeros for h. This is not a saddle point: the zeros multiply the
    random sums h, and have gradients from the first step.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> features, C, b = rng.normal(size=(5, 30)), rng.normal(size=(3, 30)), rng.normal(size=3)
    >>> sites = np.stack([np.ones((5, 30)), features], axis=2)  # (batch, sites, 2)
    >>> readout = linear_readout((2,) * 30, C, b)
    >>> outputs = readout.apply(tuple(site[:, None, :, None] for site in sites.swapaxes(0, 1)))
    >>> bool(np.allclose(outputs, features @ C.T + b)), readout.bond_dim
    (True, 12)
    """
    dims = check_dims(in_dims, "in_dims")
    C, b = (np.asarray(to_numpy(x), dtype=np.float64) for x in (coefficients, intercept))
    count = sum(p - 1 for p in dims)
    if C.ndim != 2 or C.shape[1] != count:
        raise ValueError(
            f"coefficients has shape {C.shape}, expected (num_outputs, {count}): one for every "
            "channel but the first of every site"
        )
    if b.shape != C.shape[:1]:
        raise ValueError(f"intercept has shape {b.shape}, expected {C.shape[:1]}, as coefficients")
    if not feature_rms > 0.0:
        raise ValueError(f"feature_rms is {feature_rms!r}, expected a positive number")
    center, ends = len(dims) // 2, np.cumsum([0, *(p - 1 for p in dims)])
    parts = [C[:, first:last] for first, last in pairwise(ends)]
    if bond_dim is None:
        ranks = [len(_singular(half)[1]) for half in (parts[:center], parts[center + 1 :])]
        bond_dim = 1 + max(ranks) + HIDDEN
    readout = Readout(dims, len(b), bond_dim, seed)
    rng, unit = random_generator(seed, 3), CHANNEL_RMS / feature_rms
    left, to_left = _half(parts[:center], bond_dim, unit, rng)
    right, to_right = _half(parts[:center:-1], bond_dim, unit, rng)
    # (left, out, in, right)
    middle = np.zeros((to_left.shape[1], len(b), dims[center], to_right.shape[1]))
    middle[0, :, 1:, 0] = parts[center]
    middle[:, :, 0, 0] += to_left.T
    middle[0, :, 0, :] += to_right
    middle[0, :, 0, 0] += b
    cores = [core[:, None] for core in left] + [middle]
    cores += [core.transpose(2, 1, 0)[:, None] for core in reversed(right)]
    outs = tuple(core.shape[1] for core in cores)
    readout.params |= site_entries("weight", _cut(cores, weight_bonds(outs, dims, bond_dim)))
    return readout


def _singular(parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the SVD of half of the coefficients, without null directions."""
    if not parts:
        return np.zeros((0, 0)), np.zeros(0), np.zeros((0, 0))
    u, s, v = np.linalg.svd(np.concatenate(parts, axis=1), full_matrices=False)
    rank = int(np.sum(s > 1e-12 * s[0])) if len(s) and s[0] > 0 else 0
    return u[:, :rank], s[:rank], v[:rank]


def _half(
    parts: list[np.ndarray], bond_dim: int, unit: float, rng: np.random.Generator
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return cores (from, in, to) of one half, edge first, and the map of its bond to outputs.

    The latter is (num_outputs, bond).
    """
    if not parts:
        return [], np.zeros((1, 1))
    u, s, v = _singular(parts)
    rank = min(len(s), bond_dim - 1)
    hidden = bond_dim - 1 - rank
    width = sum(part.shape[1] for part in parts)
    sums = np.concatenate(
        [v[:rank] * unit, rng.standard_normal((hidden, width)) * (unit / np.sqrt(max(width, 1)))]
    )  # (rank + hidden, width)
    cores = []
    for part, columns in zip(parts, _columns(parts), strict=True):
        core = np.zeros((bond_dim, part.shape[1] + 1, bond_dim))
        core[:, 0] = np.eye(bond_dim)
        core[0, 1:, 1:] = sums[:, columns].T
        cores.append(core)
    cores[0] = cores[0][:1]
    outputs = np.zeros((len(u), bond_dim))
    outputs[:, 1 : 1 + rank] = u[:, :rank] * (s[:rank] / unit)
    return cores, outputs


def _columns(parts: list[np.ndarray]) -> list[slice]:
    ends = np.cumsum([0, *(part.shape[1] for part in parts)])
    return [slice(first, last) for first, last in pairwise(ends)]


def _cut(cores: list[np.ndarray], bonds: tuple[int, ...]) -> list[np.ndarray]:
    """Change the gauge near the ends so that no bond exceeds the dimension of one side.

    There a core becomes an identity, and its former content is absorbed by its neighbour.
    """
    cores = list(cores)
    for k in range(len(cores) - 1):  # bonds limited by what is to the left
        l, o, i, r = cores[k].shape
        if bonds[k + 1] < r and l * o * i == bonds[k + 1]:
            carry = cores[k].reshape(-1, r)
            cores[k] = np.eye(len(carry)).reshape(l, o, i, -1)
            cores[k + 1] = np.tensordot(carry, cores[k + 1], 1)
    for k in range(len(cores) - 1, 0, -1):  # by what is to the right
        l, o, i, r = cores[k].shape
        if bonds[k] < l:
            carry = cores[k].reshape(l, -1)
            cores[k] = np.eye(carry.shape[1]).reshape(-1, o, i, r)
            cores[k - 1] = np.tensordot(cores[k - 1], carry, 1)
    return cores
