r"""Cross interpolation of one tensor: rows and columns of every cut, and the sweeps over them.

At every cut there are rows :math:`I_k` (indices of the sites to the left) and columns :math:`J_k`
(to the right); with :math:`P_k = f(I_k, J_k)` the interpolation is

.. math:: f \approx T_1 P_1^{-1} T_2 P_2^{-1} \cdots T_L, \qquad T_k = f(I_k, \sigma_k, J_{k+1}),

exact at rows and columns. A step of a sweep evaluates two sites with what is around them,
:math:`f(I_{k}, \sigma_k, \sigma_{k+1}, J_{k+2})`, and chooses rows and columns anew by Gaussian
elimination with complete pivoting, until the residual is within the tolerance (Nunez Fernandez et
al., SciPost Phys. 18, 104, 2025, sections 3 and 4). :mod:`ftnn.nonlinear.cross` does the same for
functions of the entries of a chain: batched, on every backend, with bonds known beforehand.
"""

from collections.abc import Callable, Sequence

import numpy as np

CHUNK = 2**16
"""Places evaluated at a time."""

SAMPLES = 1000
"""Random places at which an error is measured."""

CLIMBS = 8
"""Of these, as many of the worst are the start of a search for worse ones."""

Evaluate = Callable[[np.ndarray], np.ndarray]
"""Indices (n, sites) to values (n,)."""


class Cross:
    """Rows and columns of every cut of a tensor, and the sweeps that choose them.

    Parameters
    ----------
    values : callable
    dims : tuple of int
    start : int array (n, sites)
        Places to begin with; the first of them should be large.
    max_bond : int
    rtol : float
        Share of the largest value below which nothing is resolved.

    Attributes
    ----------
    rows, columns : list of int array (r, k), (r, sites - k)
        Of cut k = 0 ... sites, left of site k.
    """

    def __init__(
        self,
        values: Evaluate,
        dims: tuple[int, ...],
        start: np.ndarray,
        max_bond: int,
        rtol: float,
    ):
        self.values, self.dims, self.max_bond = values, dims, max_bond
        self.floor = max(0.1 * rtol, 8 * np.finfo(np.float64).eps)
        self.rows = [start[:1, :k] for k in range(len(dims) + 1)]
        self.columns = [start[:1, k:] for k in range(len(dims) + 1)]
        self.add(start[1:])

    @property
    def largest_bond(self) -> int:
        """Largest number of rows."""
        return max(map(len, self.rows))

    @property
    def full(self) -> bool:
        """Whether some bond is as large as it may be."""
        return self.largest_bond >= self.max_bond

    def add(self, points: np.ndarray) -> None:
        """Let points (n, sites) take part in the choice of the next sweep."""
        for k in range(1, len(self.dims)):
            self.rows[k] = np.unique(np.concatenate([self.rows[k], points[:, :k]]), axis=0)
            self.columns[k] = np.unique(np.concatenate([self.columns[k], points[:, k:]]), axis=0)

    def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw places (count, sites): random ones, and such that share a row or a column.

        Where a function is large at few places, random ones miss it; those that begin as a row
        does (on a grid: near a pivot, on every scale) or end as a column does are among them.
        """
        places = random_indices(self.dims, count, rng)
        cuts = rng.integers(0, len(self.dims) + 1, count)
        for n, k in enumerate(cuts):
            if n % 4 == 0:
                places[n, :k] = self.rows[k][rng.integers(len(self.rows[k]))]
            elif n % 4 == 1:
                places[n, k:] = self.columns[k][rng.integers(len(self.columns[k]))]
        return places

    def sweep(self) -> None:
        """Choose rows and columns of every cut anew, to the right and back."""
        cuts = range(1, len(self.dims))
        for k in (*cuts, *reversed(cuts)):
            rows = _before(self.rows[k - 1], self.dims[k - 1])
            columns = _behind(self.dims[k], self.columns[k + 1])
            matrix = self._matrix(rows, columns)
            row, column = eliminate(matrix, self.max_bond, self.floor * max(1.0, peak(matrix)))
            self.rows[k], self.columns[k] = rows[row], columns[column]

    def cores(self) -> list[np.ndarray]:
        """Cores (left, phys, right) of the interpolation, from nested rows and these columns."""
        cores, rows = [], self.rows[0]
        for k, d in enumerate(self.dims):
            left = len(rows)
            rows = _before(rows, d)
            values = self._matrix(rows, self.columns[k + 1])  # (left * phys, right)
            if k < len(self.dims) - 1:
                tiny = np.finfo(np.float64).eps * peak(values)
                row, column = eliminate(values, self.max_bond, tiny)
                chosen = values[:, column]
                if chosen[row[0], 0] != 0.0:  # else all is zero here
                    values = np.linalg.solve(chosen[row].T, chosen.T).T
                else:
                    values = chosen
                rows = rows[row]
            cores.append(values.reshape(left, d, -1))
        return cores

    def _matrix(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Values (n, m) at rows (n, k) and columns (m, sites - k)."""
        n, m = len(rows), len(columns)
        parts = []
        step = max(1, CHUNK // m)
        for start in range(0, n, step):
            block = rows[start : start + step]
            left = np.repeat(block, m, axis=0)
            right = np.tile(columns, (len(block), 1))
            parts.append(self.values(np.concatenate([left, right], axis=1)).reshape(-1, m))
        return np.concatenate(parts)


def eliminate(matrix: np.ndarray, count: int, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Choose rows and columns by Gaussian elimination with complete pivoting.

    Parameters
    ----------
    matrix : array (n, m)
    count : int
        As many at most.
    floor : float
        Stop where all of the residual is at most this; one pivot there is in any case.

    Returns
    -------
    rows, columns : int array (r,)

    Examples
    --------
    >>> x = np.arange(6.0)
    >>> [p.tolist() for p in eliminate(np.outer(x, x) + 1.0, 6, 1e-12)]
    [[5, 0], [5, 0]]
    """
    rest = matrix.copy()
    rows, columns = [], []
    for n in range(min(count, *matrix.shape)):
        place = int(np.argmax(np.abs(rest)))
        row, column = divmod(place, matrix.shape[1])
        pivot = rest[row, column]
        if n and abs(pivot) <= floor:
            break
        rows.append(row)
        columns.append(column)
        if pivot == 0.0:
            break
        rest -= np.outer(rest[:, column] / pivot, rest[row])
        rest[row] = 0.0
        rest[:, column] = 0.0
    return np.array(rows), np.array(columns)


def peak(matrix: np.ndarray) -> float:
    """Return the largest absolute value."""
    return float(np.abs(matrix).max())


def _before(rows: np.ndarray, dim: int) -> np.ndarray:
    """All rows (n, k) followed by all indices of the next site: (n * dim, k + 1)."""
    return np.column_stack([np.repeat(rows, dim, axis=0), np.tile(np.arange(dim), len(rows))])


def _behind(dim: int, columns: np.ndarray) -> np.ndarray:
    """All indices of a site followed by all columns (m, k): (dim * m, k + 1)."""
    tiled = np.tile(columns, (dim, 1))
    return np.column_stack([np.repeat(np.arange(dim), len(columns)), tiled])


def search_error(
    cross: Cross, cores: list[np.ndarray], rng: np.random.Generator
) -> tuple[float, np.ndarray]:
    """Return the largest error found, and the places of large ones.

    Parameters
    ----------
    cross : Cross
    cores : list of array (left, phys, right)
    rng : numpy.random.Generator

    Returns
    -------
    error : float
    places : int array (n, sites)
    """
    dims = tuple(core.shape[1] for core in cores)

    def errors(indices: np.ndarray) -> np.ndarray:
        return np.abs(cross.values(indices) - _entries(cores, indices))

    places = cross.sample(SAMPLES, rng)
    sizes = errors(places)
    worst = np.argsort(sizes)[-CLIMBS:]
    places, best = places[worst], sizes[worst]
    for k in rng.permutation(len(dims)):  # uphill along one site after the other
        near = np.repeat(places, dims[k], axis=0)
        near[:, k] = np.tile(np.arange(dims[k]), len(places))
        sizes = errors(near).reshape(len(places), dims[k])
        places = places.copy()
        places[:, k], best = sizes.argmax(axis=1), np.maximum(best, sizes.max(axis=1))
    return float(best.max()), np.unique(places, axis=0)


def _entries(cores: list[np.ndarray], indices: np.ndarray) -> np.ndarray:
    """Entries (n,) of a chain of cores (left, phys, right) at indices (n, sites)."""
    left = np.ones((len(indices), 1))
    for k, core in enumerate(cores):
        # sorted by index: one product for every value of it
        new = np.empty((len(indices), core.shape[2]), np.result_type(left, core))
        for p in range(core.shape[1]):
            here = indices[:, k] == p
            new[here] = left[here] @ core[:, p]
        left = new
    return left[:, 0]


def random_indices(dims: Sequence[int], n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the indices (n, sites) of random entries."""
    return np.stack([rng.integers(0, d, n) for d in dims], axis=1)
