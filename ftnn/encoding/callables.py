r"""Any function of indices, or of points of a grid, as MPS: tensor cross interpolation.

The function is evaluated only where the interpolation needs it: about :math:`L d^2 r^2` times per
sweep, for L sites of dimension d and bonds r (:mod:`ftnn.encoding.interpolation`). Several
functions form one tensor whose first site is their number, which becomes the batch index in the
end. Between sweeps, large errors are searched for by ascent from random places, and rows and
columns are added there.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..arrays.backend import to_numpy
from ..chains.bonds import check_tolerance
from ..chains.dims import check_dims, check_positive
from ..chains.states import MPS
from ..nonlinear.cross import entries
from .grids import QuanticsGrid
from .interpolation import CHUNK, SAMPLES, Cross, random_indices, search_error


def from_callable(
    function: Callable[..., Any],
    grid: QuanticsGrid | Sequence[int],
    max_bond: int = 256,
    rtol: float = 1e-8,
    pivots: np.ndarray | None = None,
    sweeps: int = 20,
    seed: int = 0,
) -> MPS:
    r"""Interpolate a function of indices, or of points of a grid, as MPS.

    Parameters
    ----------
    function : callable
        With dims: maps indices, int array (n, L), to values. With a grid: maps the coordinates of
        n points, one array (n,) for each variable. Values are real or complex, (n,), or (batch, n)
        for several functions at once.
    grid : QuanticsGrid or sequence of int
        Grid of real variables; or the physical dimensions, for a function of indices.
    max_bond : int
    rtol : float
        Largest error allowed, relative to the largest value encountered, for each function. If 0,
        the interpolation has bond ``max_bond``, regardless of its error.
    pivots : array (n, variables) or int array (n, L), optional
        Places that matter, such as that of a narrow peak, which random ones would miss: points for
        a grid, otherwise indices.
    sweeps : int
        Largest number of sweeps back and forth.
    seed : int
        Seed of random places.

    Returns
    -------
    MPS
        float64 or complex128, on NumPy; its bonds are common to the batch.

    Raises
    ------
    ValueError
        If the tolerance is not reached, or the function returns other shapes, NaN or infinity.

    See Also
    --------
    from_function : for smooth functions of one variable: no sampled error, fewer evaluations.

    Examples
    --------
    A function of two variables on 2^40 points:

    >>> grid = QuanticsGrid(20, bounds=[(0.0, 1.0), (0.0, 1.0)])
    >>> x = from_callable(lambda x, y: 1 / (1 + x + 2 * y), grid, rtol=1e-6)
    >>> x.L, max(x.bond_dims) < 16
    (40, True)
    >>> bool(sampled_error(x, lambda x, y: 1 / (1 + x + 2 * y), grid).max() < 1e-6)
    True

    A function of indices:

    >>> x = from_callable(lambda indices: indices.sum(axis=1), (3,) * 10)
    >>> x.bond_dims
    (2, 2, 2, 2, 2, 2, 2, 2, 2)
    """
    check_positive(max_bond, "max_bond")
    check_positive(sweeps, "sweeps")
    check_tolerance(rtol)
    values = _Values(function, grid)
    rng = np.random.default_rng(seed)
    places = random_indices(values.dims, SAMPLES, rng)
    if pivots is not None:
        places = np.concatenate([_pivots(pivots, grid, values.dims), places])
    start = values.start(places, 0 if pivots is None else len(pivots))
    cross = Cross(values, (len(values.scale), *values.dims), start, max_bond, rtol)
    error, errors = np.inf, []
    for _ in range(sweeps):
        values.rescale()
        cross.sweep()
        cores = cross.cores()
        error, worst = search_error(cross, cores, rng)
        errors.append(error)
        settled = len(errors) > 2 and error >= 0.5 * errors[-3]
        if error <= rtol or (rtol == 0.0 and settled):
            break
        if settled and cross.full:  # no bond left to grow
            break
        cross.add(worst)
    if rtol > 0.0 and error > rtol:
        raise ValueError(
            f"the largest error found is {error:.1e} times the largest value, above rtol {rtol:g}, "
            f"with bonds up to {cross.largest_bond} after {len(errors)} sweeps; raise max_bond or "
            "rtol, give pivots, or use rtol=0 to accept the result of max_bond"
        )
    first = values.scale[:, None] * cores[0][0]  # (batch, right)
    head = np.einsum("bl,lpr->bpr", first, cores[1])[:, None]  # (batch, 1, phys, right)
    rest = [np.broadcast_to(core, (len(head), *core.shape)).copy() for core in cores[2:]]
    return MPS([head, *rest])


def sampled_error(
    x: MPS,
    function: Callable[..., Any],
    grid: QuanticsGrid | Sequence[int],
    samples: int = SAMPLES,
    seed: int = 1,
) -> np.ndarray:
    """Measure the distance of a state from the function it interpolates, at random places.

    Parameters
    ----------
    x : MPS
    function, grid
        As in :func:`from_callable`.
    samples : int
    seed : int
        Seed of the places.

    Returns
    -------
    float64 array (batch,)
        Largest error, relative to the largest value among the samples.
    """
    check_positive(samples, "samples")
    values = _Values(function, grid)
    if x.phys_dims != values.dims:
        raise ValueError(f"x has phys_dims {x.phys_dims}, but the grid has {values.dims}")
    places = random_indices(values.dims, samples, np.random.default_rng(seed))
    exact = values.evaluate(places)  # (batch, n)
    near = to_numpy(entries(x.to("numpy").cores, places))
    size = np.abs(exact).max(axis=1)
    return np.abs(near - exact).max(axis=1) / np.where(size > 0, size, 1.0)


# ---- the function --------------------------------------------------------------------------------


class _Values:
    """Checked functions as one tensor (batch, *dims) with entries of order one."""

    def __init__(self, function: Callable[..., Any], grid: QuanticsGrid | Sequence[int]):
        if not callable(function):
            raise TypeError(f"function is a {type(function).__name__}, expected a callable")
        self.function = function
        self.grid = grid if isinstance(grid, QuanticsGrid) else None
        self.dims = self.grid.dims if self.grid else check_dims(grid, "grid")  # type: ignore[arg-type]
        self.scale = np.ones(1)
        self.largest = np.zeros(1)

    def evaluate(self, indices: np.ndarray) -> np.ndarray:
        """Evaluate all functions at indices (n, L); returns (batch, n)."""
        n = len(indices)
        arguments = (indices,) if self.grid is None else tuple(self.grid.points(indices).T)
        values = np.asarray(self.function(*arguments))
        if values.ndim == 1:
            values = values[None]
        if values.ndim != 2 or values.shape[1] != n or len(values) == 0:
            raise ValueError(
                f"function returned an array of shape {values.shape} for {n} places, expected "
                f"({n},) or (batch, {n})"
            )
        if values.dtype.kind not in "fiubc":
            raise TypeError(f"function returned dtype {values.dtype}, expected numbers")
        values = values.astype(np.complex128 if values.dtype.kind == "c" else np.float64)
        if not np.isfinite(values).all():
            place = int(np.argmin(np.isfinite(values).all(axis=0)))
            where = [np.asarray(a)[place].tolist() for a in arguments]
            raise ValueError(f"function is NaN or infinite at {where}; give one that is finite")
        return values

    def start(self, places: np.ndarray, chosen: int) -> np.ndarray:
        """Return the places (n, 1 + L) to start from: the largest value, and those chosen."""
        values = np.abs(self.evaluate(places))
        self.largest = values.max(axis=1)
        self.rescale()
        best = int(np.argmax(values / self.scale[:, None]))
        pairs = [divmod(best, values.shape[1])]
        pairs += [(b, n) for n in range(chosen) for b in range(len(values))]
        return np.array([(b, *places[n]) for b, n in pairs], dtype=np.int64)

    def rescale(self) -> None:
        """Scale every function so that its largest value encountered is one."""
        self.scale = np.where(self.largest > 0, self.largest, 1.0)

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        """Return scaled values (n,) at indices (n, 1 + L); the first index chooses the function."""
        parts = []
        for start in range(0, len(indices), CHUNK):
            rows = indices[start : start + CHUNK]
            values = self.evaluate(rows[:, 1:])
            self.largest = np.maximum(self.largest, np.abs(values).max(axis=1))
            parts.append(values[rows[:, 0], np.arange(len(rows))] / self.scale[rows[:, 0]])
        return np.concatenate(parts)


def _pivots(pivots: Any, grid: QuanticsGrid | Sequence[int], dims: tuple[int, ...]) -> np.ndarray:
    """Return the indices (n, L) of pivots, or raise."""
    if isinstance(grid, QuanticsGrid):
        return grid.indices(pivots)
    points = np.asarray(pivots)
    if points.ndim != 2 or points.shape[1] != len(dims) or points.dtype.kind not in "iu":
        raise ValueError(
            f"pivots has shape {points.shape} and dtype {points.dtype}, expected integers "
            f"(n, {len(dims)})"
        )
    if (points < 0).any() or (points >= np.array(dims)).any():
        raise ValueError(f"pivots go beyond the dimensions {dims}")
    return points.astype(np.int64)
