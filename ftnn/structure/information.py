"""Mutual information between the sites of data: states, or arrays of samples."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays.backend import check_finite, to_numpy
from ..chains.entanglement import mutual_information
from ..chains.states import MPS

MOST_BINS = 8
"""Bins of a column of numbers, at most."""

_PER_CELL = 20
"""Samples for every cell of the table of two columns, at least: what sets the number of bins."""


def site_information(data: Any) -> np.ndarray:
    r"""Return the mutual information of all pairs of sites, in nats.

    Parameters
    ----------
    data : MPS or array (samples, sites)
        Of states, :math:`S_i + S_j - S_{ij}` of the reduced density matrices of every sample, mean
        over the samples: how the sites of one sample depend on each other. Of an array, the mutual
        information of the distributions of its columns, over the samples: see
        :func:`code_information`. Columns with more values than bins are cut at quantiles.

    Returns
    -------
    float64 array (sites, sites)
        Symmetric, nonnegative, with zeros on the diagonal.

    Raises
    ------
    TypeError
        If ``data`` is neither states nor numbers.
    ValueError
        If there are no samples, or fewer than two sites, or an entry is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).standard_normal((1000, 2))
    >>> y = np.column_stack([x, x[:, 0] ** 2])
    >>> print(site_information(y).round(1))  # site 2 depends on site 0
    [[0.  0.  1.2]
     [0.  0.  0. ]
     [1.2 0.  0. ]]
    """
    if isinstance(data, MPS):
        check_states(data)
        information = to_numpy(mutual_information(data.cores)).mean(0)
        information = np.maximum(0.0, (information + information.T) / 2)
        # of product states: what rounding leaves
        information[information < 1e-13 * max(1.0, float(information.max()))] = 0.0
        return information
    return code_information(binned(check_samples(data)))


def code_information(codes: np.ndarray) -> np.ndarray:
    r"""Return the mutual information of the columns of a table of codes, in nats.

    From n samples of independent columns of a and b values, the mutual information of the
    frequencies is :math:`(a-1)(b-1)/2n` on average (to first order in 1/n; Miller 1955). This is
    subtracted, and what is negative then is set to zero.

    Parameters
    ----------
    codes : int array (samples, sites)
        Codes of the values of every column; their order does not matter.

    Returns
    -------
    float64 array (sites, sites)

    Examples
    --------
    >>> print(code_information(np.array([[0, 5], [1, 7]] * 500)).round(3))
    [[0.    0.693]
     [0.693 0.   ]]
    """
    n, L = codes.shape
    columns = [np.unique(column, return_inverse=True)[1] for column in codes.T]
    counts = [int(column.max()) + 1 for column in columns]
    entropies = [_entropy(np.bincount(column)) for column in columns]
    information = np.zeros((L, L))
    for i in range(L):
        for j in range(i):
            joint = _entropy(np.bincount(columns[i] * counts[j] + columns[j]))
            bias = (counts[i] - 1) * (counts[j] - 1) / (2 * n)
            information[i, j] = max(0.0, entropies[i] + entropies[j] - joint - bias)
    return information + information.T


def binned(values: np.ndarray) -> np.ndarray:
    """Return codes (samples, sites) of numbers: quantiles, or the values where there are few.

    Examples
    --------
    >>> print(binned(np.array([[5.0, 1.0], [7.0, 1.0], [6.0, 1.0], [8.0, 3.0]])).T)
    [[0 1 0 1]
     [0 0 0 1]]
    """
    bins = int(np.clip(np.sqrt(len(values) / _PER_CELL), 2, MOST_BINS))
    edges = np.arange(1, bins) / bins
    codes = []
    for column in values.T:
        known, code = np.unique(column, return_inverse=True)
        if len(known) > bins:
            code = np.searchsorted(np.unique(np.quantile(column, edges)), column, side="left")
        codes.append(code)
    return np.stack(codes, axis=1)


def column_codes(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Return codes (samples, sites) of columns of numbers, NaN where missing, or of text.

    What is missing has a code of its own.

    Examples
    --------
    >>> print(column_codes([np.array([5.0, np.nan, 6.0]), np.array(["red", "blue", "red"])]).T)
    [[0 2 1]
     [1 0 1]]
    """
    codes = []
    for column in columns:
        if column.dtype.kind == "f":
            missing = np.isnan(column)
            code = np.full(len(column), len(column), dtype=np.int64)
            code[~missing] = binned(column[~missing, None])[:, 0]
            codes.append(np.unique(code, return_inverse=True)[1])
        else:
            codes.append(np.unique(column.astype(str), return_inverse=True)[1])
    return np.stack(codes, axis=1)


def check_samples(data: Any) -> np.ndarray:
    """Return samples as float64 array (samples, sites), or raise an error about ``data``."""
    try:
        values = np.asarray(to_numpy(data) if hasattr(data, "shape") else data)
        values = values if values.dtype.kind in "fiub" else values.astype(np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"data is a {type(data).__name__}, expected an MPS, or an array (samples, sites) of "
            "numbers; give categories as codes"
        ) from None
    if values.ndim != 2:
        raise ValueError(f"data has shape {values.shape}, expected (samples, sites)")
    if len(values) < 2:
        raise ValueError(
            f"data has {len(values)} samples, expected two or more: how sites depend on each "
            "other is seen in how samples differ"
        )
    _check_sites(values.shape[1])
    values = values.astype(np.float64)
    check_finite(values, "data")
    return values


def check_states(data: MPS) -> None:
    """Raise ``ValueError`` unless states are finite, with two sites or more."""
    _check_sites(data.L)
    for k, core in enumerate(data.cores):
        check_finite(core, f"core {k} of data")


def _check_sites(count: int) -> None:
    if count < 2:
        raise ValueError(f"data has {count} sites, expected two or more: one has no order")


def _entropy(counts: np.ndarray) -> float:
    """Return the entropy of frequencies, in nats."""
    p = counts[counts > 0] / counts.sum()
    return float(-np.sum(p * np.log(p)))
