"""QuanticsGrid: grids of real variables with one site per bit."""

from collections.abc import Sequence

import numpy as np

from ..chains.dims import check_positive

ORDERS = ("interleaved", "serial", "fused")


class QuanticsGrid:
    r"""A grid of :math:`2^L` points for each of v variables, addressed by bits, coarse to fine.

    A variable on [low, high) has the values
    :math:`\text{low} + (\text{high} - \text{low}) \sum_{k=1}^{L} b_k 2^{-k}`.

    Parameters
    ----------
    sites : int
        L, bits of every variable.
    bounds : sequence of (low, high)
        One pair per variable.
    order : {"interleaved", "serial", "fused"}
        "interleaved": the first bits of all variables, then the second ones, ...: scales stay
        together, which is best if variables are correlated. "serial": all bits of the first
        variable, then those of the next. "fused": one site of dimension :math:`2^v` for the bits of
        one scale.

    Attributes
    ----------
    dims : tuple of int
        Physical dimensions.

    Examples
    --------
    >>> grid = QuanticsGrid(3, bounds=[(0.0, 1.0), (-1.0, 1.0)])
    >>> grid.dims
    (2, 2, 2, 2, 2, 2)
    >>> grid.points(np.array([[1, 0, 0, 1, 0, 0]]))  # x = 0.100, y = 0.010 in bits
    array([[ 0.5, -0.5]])
    >>> grid.indices(np.array([[0.5, -0.5]]))
    array([[1, 0, 0, 1, 0, 0]])
    """

    def __init__(
        self,
        sites: int,
        bounds: Sequence[Sequence[float]] = ((0.0, 1.0),),
        order: str = "interleaved",
    ):
        check_positive(sites, "sites")
        self.bounds = np.array(bounds, dtype=np.float64)
        good = self.bounds.ndim == 2 and self.bounds.shape[1] == 2 and len(self.bounds) > 0
        if not good or not np.isfinite(self.bounds).all() or (np.diff(self.bounds) <= 0).any():
            raise ValueError(
                f"bounds is {bounds!r}, expected one pair (low, high) with low < high for each "
                "variable"
            )
        if order not in ORDERS:
            raise ValueError(f"order is {order!r}; choose one of {', '.join(ORDERS)}")
        self.sites, self.order = int(sites), order
        v = self.variables
        self.dims = (2**v,) * self.sites if order == "fused" else (2,) * (self.sites * v)

    @property
    def variables(self) -> int:
        """Number of variables."""
        return len(self.bounds)

    def points(self, indices: np.ndarray) -> np.ndarray:
        """Return the points (n, variables) at indices (n, sites of the chain)."""
        bits = self._unfold(np.asarray(indices))  # (n, variables, L)
        weights = 0.5 ** np.arange(1, self.sites + 1)
        low, high = self.bounds.T
        return low + (high - low) * (bits @ weights)

    def indices(self, points: np.ndarray) -> np.ndarray:
        """Return the indices (n, sites of the chain) of the grid points at or below points.

        Raises
        ------
        ValueError
            If points are not (n, variables) or beyond the bounds.
        """
        points = np.asarray(points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != self.variables:
            raise ValueError(f"points has shape {points.shape}, expected (n, {self.variables})")
        low, high = self.bounds.T
        rest = (points - low) / (high - low)
        if not ((rest >= 0.0) & (rest < 1.0)).all():
            raise ValueError(f"points lie beyond the bounds {self.bounds.tolist()}")
        bits = np.empty((len(points), self.variables, self.sites), dtype=np.int64)
        for k in range(self.sites):
            rest = 2.0 * rest
            bits[:, :, k] = rest >= 1.0
            rest = rest - bits[:, :, k]
        return self._fold(bits)

    def _fold(self, bits: np.ndarray) -> np.ndarray:
        """Return indices (n, sites of the chain) for bits (n, variables, L)."""
        if self.order == "serial":
            return bits.reshape(len(bits), -1)
        scales = bits.transpose(0, 2, 1)  # (n, L, variables)
        if self.order == "interleaved":
            return scales.reshape(len(bits), -1)
        return scales @ (1 << np.arange(self.variables)[::-1])

    def _unfold(self, indices: np.ndarray) -> np.ndarray:
        """Return bits (n, variables, L) for indices: invert :meth:`_fold`."""
        n, v, L = len(indices), self.variables, self.sites
        if self.order == "serial":
            return indices.reshape(n, v, L)
        if self.order == "interleaved":
            return indices.reshape(n, L, v).transpose(0, 2, 1)
        return (indices[:, None, :] >> np.arange(v)[::-1, None]) & 1
