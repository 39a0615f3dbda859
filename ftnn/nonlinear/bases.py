"""Univariate functions that vanish at zero: Chebyshev polynomials, Gaussians, B-splines."""

import itertools
import math

import numpy as np
from autoray import do

from ..arrays.backend import Array, as_dtype_of
from ..arrays.functions import stack, stop_gradient

BASES = ("chebyshev", "radial", "spline")

EXTENT = 3.0
"""Radial functions and splines cover arguments from -3 to 3: entries have mean square 1."""


def size(basis: str, grid: int, odd: bool, order: int) -> int:
    """Count the functions of a basis of ``grid`` polynomials, Gaussians or intervals."""
    if basis != "spline":
        return grid
    return (2 * grid + order) // 2 if odd else grid + order


def chebyshev(u: Array, grid: int, odd: bool) -> Array:
    """Return ``T_n(tanh u) - T_n(0)`` for n = 1, 3, ... or n = 1, 2, ...: array (grid, ...)."""
    t = do("tanh", u)
    double = 4.0 * t * t - 2.0 if odd else 2.0 * t  # 2 T_2 or 2 T_1
    # T_{n+2} = 2 T_2 T_n - T_{n-2} and T_{n+1} = 2 T_1 T_n - T_{n-1}
    values, before = [t], (t if odd else do("ones_like", t))
    while len(values) < grid:
        values.append(double * values[-1] - before)
        before = values[-2]
    if not odd:  # T_n(0) = 0, -1, 0, 1, ...
        values = [v - (0.0, -1.0, 0.0, 1.0)[n % 4] for n, v in enumerate(values)]
    return stack(values, 0)


def radial(u: Array, grid: int, odd: bool) -> Array:
    """Return Gaussians around evenly spaced centers, minus their value at 0: array (grid, ...).

    With ``odd``, differences of one around c and one around -c, for centers c > 0.
    """
    width = EXTENT / grid if odd else 2.0 * EXTENT / max(grid, 2)
    # exactly zero at zero, where backends round exponentials differently; the slope there stays
    zero = as_dtype_of(u == 0.0, u)
    values = []
    for center in _centers(grid, odd):
        here = do("exp", -(((u - center) / width) ** 2))
        if odd:
            values.append(here - do("exp", -(((u + center) / width) ** 2)))
        else:
            value = here - math.exp(-((center / width) ** 2))
            values.append(value - stop_gradient(value) * zero)
    return stack(values, 0)


def _centers(grid: int, odd: bool) -> list[float]:
    if odd:
        return [EXTENT * n / grid for n in range(1, grid + 1)]
    if grid == 1:
        return [0.5 * EXTENT]
    return [EXTENT * (2 * n / (grid - 1) - 1.0) for n in range(grid)]


def spline(u: Array, knots: Array, order: int, odd: bool) -> Array:
    """Return B-splines of degree ``order``, minus their value at 0: array (functions, ...).

    Parameters
    ----------
    u : array (...)
    knots : array (n,)
        Increasing, and symmetric about 0 if ``odd``.
    order : int
    odd : bool
        Use only differences of mirror images.
    """
    zero = 0.0 * knots[0]
    if not odd:
        at_zero = bsplines(zero, knots, order)
        return stack([v - c for v, c in zip(bsplines(u, knots, order), at_zero, strict=True)], 0)
    sign = do("copysign", do("ones_like", u), stop_gradient(u))
    at_zero = _mirrored(zero, knots, order)
    values = _mirrored(sign * u, knots, order)
    return stack([sign * (v - c) for v, c in zip(values, at_zero, strict=True)], 0)


def _mirrored(u: Array, knots: Array, order: int) -> list[Array]:
    """Return ``B_j(u) - B_j(-u)`` for the later half of the B-splines, at u >= 0.

    With c splines in all, ``B_j(-u) = B_{c-1-j}(u)``. On u >= 0 only those from the knot
    ``-order`` places before 0 on differ from 0; of these the first ``order`` overlap their images.
    """
    grid = (len(knots) - 1) // 2 - order
    values = bsplines(u, knots[grid:], order)  # grid + order of them
    return [
        values[j] - values[order - 1 - j] if j < order else values[j]
        for j in range((order + 1) // 2, len(values))
    ]


def bsplines(u: Array, knots: Array, order: int) -> list[Array]:
    """Evaluate B-splines of degree ``order`` >= 1 by the Cox-de Boor recursion.

    ``B_i^k = r_i^k B_i^{k-1} + (1 - r_{i+1}^k) B_{i+1}^{k-1}`` with
    ``r_i^k(u) = (u - t_i) / (t_{i+k} - t_i)``; the hats ``B_i^1`` are
    ``max(0, min(r_i^1, 1 - r_{i+1}^1))``. One array per function: whole arrays of them do not
    stay in cache.

    Parameters
    ----------
    u : array (...)
    knots : array (m,)
    order : int

    Returns
    -------
    list of m - order - 1 arrays (...)
    """
    beyond = [u - knot for knot in knots]
    # By division: 1 at the next knot, exactly, so that at a knot all ties below are seen as such,
    # every gradient is the mean of both sides, and that of the sum is right (order 2 and more)
    ratios = [d / step for d, step in zip(beyond, knots[1:] - knots[:-1], strict=False)]
    zero = do("zeros_like", u)
    values = [do("maximum", zero, do("minimum", r, 1.0 - s)) for r, s in itertools.pairwise(ratios)]
    for k in range(2, order + 1):
        inverses = 1.0 / (knots[k:] - knots[:-k])
        ratios = [d * inverse for d, inverse in zip(beyond, inverses, strict=False)]
        rising = [r * v for r, v in zip(ratios, values, strict=True)]
        falling = [v - w for v, w in zip(values, rising, strict=True)]
        values = [w + v for w, v in zip(rising[:-1], falling[1:], strict=True)]
    return values


def uniform_knots(grid: int, order: int, odd: bool) -> np.ndarray:
    """Return knots of ``grid`` even intervals (per side of 0 if ``odd``), and ``order`` beyond."""
    count = 2 * grid if odd else grid
    return extend_knots(np.linspace(-EXTENT, EXTENT, count + 1), order)


def extend_knots(inner: np.ndarray, order: int) -> np.ndarray:
    """Add ``order`` knots on both sides, with the spacing of the outermost ones."""
    steps = np.arange(1, order + 1)
    before = inner[0] - steps[::-1] * (inner[1] - inner[0])
    after = inner[-1] + steps * (inner[-1] - inner[-2])
    return np.concatenate([before, inner, after])


def adapted_knots(
    samples: np.ndarray, grid: int, order: int, odd: bool, uniform: float
) -> np.ndarray:
    """Return knots at quantiles of the samples, mixed with even ones, as pykan updates its grids.

    Parameters
    ----------
    samples : array (n,)
    grid, order : int
    odd : bool
        Place knots on the positive side at quantiles of the moduli, and mirror them.
    uniform : float
        Weight of the even grid between the extremes of the samples, which keeps knots apart.
    """
    samples = np.abs(samples) if odd else samples
    low, high = (0.0, samples.max()) if odd else (samples.min(), samples.max())
    if not high > low:
        return uniform_knots(grid, order, odd)
    even = np.linspace(low, high, grid + 1)
    quantiles = np.quantile(samples, np.linspace(0.0, 1.0, grid + 1))
    quantiles[0], quantiles[-1] = low, high
    inner = uniform * even + (1.0 - uniform) * quantiles
    if odd:
        inner = np.concatenate([-inner[:0:-1], inner])
    return extend_knots(inner, order)
