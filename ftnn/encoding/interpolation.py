r"""Cross interpolation of one tensor: rows and columns of every cut, and the sweeps over them.

At every cut there are rows :math:`I_k` (indices of the sites to the left) and columns :math:`J_k`
(to the right); with :math:`P_k = f(I_k, J_k)` the interpolation is

.. math:: f \approx T_1 P_1^{-1} T_2 P_2^{-1} \cdots T_L, \qquad T_k = f(I_k, \sigma_k, J_{k+1}),

exact at rows and columns. A step of a sweep evaluates two sites in their environment,
:math:`f(I_{k}, \sigma_k, \sigma_{k+1}, J_{k+2})`, and chooses new rows and columns by Gaussian
elimination with complete pivoting, until the residual is within the tolerance (Nunez Fernandez et
al., SciPost Phys. 18, 104, 2025, sections 3 and 4). :mod:`ftnn.nonlinear.cross` does the same for
functions of the entries of a chain: batched, on every backend, with bonds known beforehand.
"""

from collections.abc import Callable, Sequence

import numpy as np

CHUNK = 2**16
"""Number of places evaluated at a time."""

SAMPLES = 1000
"""Number of random places at which an error is measured."""

CLIMBS = 8
"""Number of the worst of these from which larger errors are searched for."""

Evaluate = Callable[[np.ndarray], np.ndarray]
"""Map from indices (n, sites) to values (n,)."""


class Cross:
    """Rows and columns of every cut of a tensor, and the sweeps that choose them.

    Parameters
    ----------
    values : callable
    dims : tuple of int
    start : int array (n, sites)
        Initial places; the value at the first one should be large.
    max_bond : int
    rtol : float
        Fraction of the largest value below which nothing is resolved.

    Attributes
    ----------
    rows, columns : list of int array (r, k), (r, sites - k)
        Index sets of cut k = 0 ... sites, left of site k.
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
        """Whether some bond has reached its limit."""
        return self.largest_bond >= self.max_bond

    def add(self, points: np.ndarray) -> None:
        """Add points (n, sites) as candidates for the next sweep."""
        for k in range(1, len(self.dims)):
            self.rows[k] = np.unique(np.concatenate([self.rows[k], points[:, :k]]), axis=0)
            self.columns[k] = np.unique(np.concatenate([self.columns[k], points[:, k:]]), axis=0)

    def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw places (count, sites): random ones, and ones that share a row or a column.

        Random places miss a function that is large at few places only; places that begin like a row
        (on a grid: near a pivot, on every scale) or end like a column reach it.
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
        """Choose new rows and columns of every cut, to the right and back."""
        cuts = range(1, len(self.dims))
        for k in (*cuts, *reversed(cuts)):
            rows = _before(self.rows[k - 1], self.dims[k - 1])
            columns = _behind(self.dims[k], self.columns[k + 1])
            matrix = self._matrix(rows, columns)
            row, column = eliminate(
                matrix, self.max_bond, self.floor * max(1.0, largest_modulus(matrix))
            )
            self.rows[k], self.columns[k] = rows[row], columns[column]

    def cores(self) -> list[np.ndarray]:
        """Return the cores (left, phys, right) of the interpolation with these columns."""
        cores, rows = [], self.rows[0]
        for k, d in enumerate(self.dims):
            left = len(rows)
            rows = _before(rows, d)
            values = self._matrix(rows, self.columns[k + 1])  # (left * phys, right)
            if k < len(self.dims) - 1:
                tiny = np.finfo(np.float64).eps * largest_modulus(values)
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
        """Return the values (n, m) at rows (n, k) and columns (m, sites - k)."""
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
        Maximum number of pivots.
    floor : float
        Stop when the whole residual is at most this; there is always at least one pivot.

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


def largest_modulus(matrix: np.ndarray) -> float:
    """Return the largest absolute value."""
    return float(np.abs(matrix).max())


def _before(rows: np.ndarray, dim: int) -> np.ndarray:
    """Return all rows (n, k) followed by all indices of the next site: (n * dim, k + 1)."""
    return np.column_stack([np.repeat(rows, dim, axis=0), np.tile(np.arange(dim), len(rows))])


def _behind(dim: int, columns: np.ndarray) -> np.ndarray:
    """Return all indices of a site followed by all columns (m, k): (dim * m, k + 1)."""
    ends = np.tile(columns, (dim, 1))
    return np.column_stack([np.repeat(np.arange(dim), len(columns)), ends])


def search_error(
    cross: Cross, cores: list[np.ndarray], rng: np.random.Generator
) -> tuple[float, np.ndarray]:
    """Return the largest error found, and the places of large errors.

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
    """Return the entries (n,) of a chain of cores (left, phys, right) at indices (n, sites)."""
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
