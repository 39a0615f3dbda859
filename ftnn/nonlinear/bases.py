"""Univariate functions that vanish at zero: Chebyshev polynomials, Gaussians, B-splines."""

import numpy as np
from autoray import do

from ..backend import Array, stack

BASES = ("chebyshev", "radial", "spline")

EXTENT = 3.0
"""Radial functions and splines cover arguments from -3 to 3: entries have mean square 1."""


def size(basis: str, grid: int, odd: bool, order: int) -> int:
    """Count the functions of a basis of ``grid`` polynomials, Gaussians or intervals."""
    if basis != "spline":
        return grid
    return (2 * grid + order) // 2 if odd else grid + order


def chebyshev(u: Array, grid: int, odd: bool) -> Array:
    """``T_n(tanh u) - T_n(0)`` for n = 1, 3, 5, ... or n = 1, 2, 3, ...: array (..., grid)."""
    t = do("tanh", u)
    double = 4.0 * t * t - 2.0 if odd else 2.0 * t  # 2 T_2 or 2 T_1
    # T_{n+2} = 2 T_2 T_n - T_{n-2} and T_{n+1} = 2 T_1 T_n - T_{n-1}
    values, before = [t], (t if odd else do("ones_like", t))
    while len(values) < grid:
        values.append(double * values[-1] - before)
        before = values[-2]
    if not odd:  # T_n(0) = 0, -1, 0, 1, ...
        values = [v - (0.0, -1.0, 0.0, 1.0)[n % 4] for n, v in enumerate(values)]
    return stack(values, -1)


def radial(u: Array, grid: int, odd: bool) -> Array:
    """Gaussians around evenly spaced centers, less their value at 0: array (..., grid).

    With ``odd``, differences of one around c and one around -c, for centers c > 0.
    """
    centers = EXTENT * (np.arange(1, grid + 1) / grid if odd else _even_centers(grid))
    width = EXTENT / grid if odd else 2.0 * EXTENT / max(grid, 2)
    values = []
    for center in centers.tolist():
        here = do("exp", -(((u - center) / width) ** 2))
        if odd:
            values.append(here - do("exp", -(((u + center) / width) ** 2)))
        else:
            values.append(here - float(np.exp(-((center / width) ** 2))))
    return stack(values, -1)


def _even_centers(grid: int) -> np.ndarray:
    return np.linspace(-1.0, 1.0, grid) if grid > 1 else np.array([0.5])


def spline(u: Array, knots: Array, order: int, odd: bool) -> Array:
    """B-splines of degree ``order``, less their value at 0: array (..., functions).

    Parameters
    ----------
    u : array (...)
    knots : array (n,)
        Increasing, and symmetric about 0 if ``odd``.
    order : int
    odd : bool
        Take differences of mirror images only.
    """
    values = bsplines(u, knots, order)
    if not odd:
        return values - bsplines(0.0 * knots[:1], knots, order)[0]
    count = values.shape[-1]
    mirrored = do("flip", values, (values.ndim - 1,))
    return (values - mirrored)[..., count - count // 2 :]


def bsplines(u: Array, knots: Array, order: int) -> Array:
    """B-splines of degree ``order`` by the recursion of Cox and de Boor: (..., n - order - 1)."""
    u = u[..., None]
    inside = (u >= knots[:-1]) & (u < knots[1:])
    values = do("where", inside, 0.0 * u + 1.0, 0.0 * u)
    for k in range(1, order + 1):
        rise = (u - knots[: -k - 1]) / (knots[k:-1] - knots[: -k - 1])
        fall = (knots[k + 1 :] - u) / (knots[k + 1 :] - knots[1:-k])
        values = rise * values[..., :-1] + fall * values[..., 1:]
    return values


def uniform_knots(grid: int, order: int, odd: bool) -> np.ndarray:
    """Knots of ``grid`` even intervals (on either side of 0, if ``odd``), and ``order`` beyond."""
    count = 2 * grid if odd else grid
    return extended(np.linspace(-EXTENT, EXTENT, count + 1), order)


def extended(inner: np.ndarray, order: int) -> np.ndarray:
    """Add ``order`` knots on both sides, as far apart as the outermost ones."""
    steps = np.arange(1, order + 1)
    before = inner[0] - steps[::-1] * (inner[1] - inner[0])
    after = inner[-1] + steps * (inner[-1] - inner[-2])
    return np.concatenate([before, inner, after])


def adapted_knots(
    samples: np.ndarray, grid: int, order: int, odd: bool, uniform: float
) -> np.ndarray:
    """Knots at quantiles of the samples, mixed with even ones, as pykan updates its grids.

    Parameters
    ----------
    samples : array (n,)
    grid, order : int
    odd : bool
        Place those on the positive side by the moduli, and mirror them.
    uniform : float
        Share of the even grid between the extremes of the samples, which keeps knots apart.
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
    return extended(inner, order)
