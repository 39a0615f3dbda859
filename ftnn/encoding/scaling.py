"""Scaling of the numbers of a table by statistics of the training data, and its inverse.

These are functions, not a class: fitted arrays are in the encoder's buffers, with which they are
saved. A matrix is (n, columns) with NaN for missing values, which stay NaN.
"""

import numpy as np

NORMALIZATIONS = ("standard", "quantile", "none")

QUANTILES = 101
"""Number of quantiles per column stored for "quantile"."""

Statistics = dict[str, np.ndarray]
"""``center`` and ``scale`` (columns,), and ``quantiles`` (QUANTILES, columns) if needed."""


def statistics_shapes(columns: int, normalize: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the results of :func:`fit_statistics`."""
    shapes: dict[str, tuple[int, ...]] = {"center": (columns,), "scale": (columns,)}
    return shapes | ({"quantiles": (QUANTILES, columns)} if normalize == "quantile" else {})


def fit_statistics(matrix: np.ndarray, normalize: str) -> Statistics:
    """Return mean and inverse deviation of every column, and quantiles for "quantile".

    The scale of a constant or entirely missing column is 0.

    Examples
    --------
    >>> own = fit_statistics(np.array([[1.0, 5.0], [3.0, 5.0], [np.nan, 5.0]]), "standard")
    >>> own["center"].tolist(), own["scale"].tolist()
    ([2.0, 5.0], [1.0, 0.0])
    """
    columns = matrix.shape[1]
    result = {k: np.zeros(s) for k, s in statistics_shapes(columns, normalize).items()}
    if normalize == "none":
        return result | {"scale": np.ones(columns)}
    for k, column in enumerate(matrix.T):
        column = column[~np.isnan(column)]
        if len(column) == 0:
            continue
        peak = np.abs(column).max() or 1.0  # squares of large numbers would overflow
        deviation = np.std(column / peak)
        result["center"][k] = np.mean(column / peak) * peak
        if column.min() < column.max() and deviation > 8 * np.finfo(np.float64).eps:
            with np.errstate(over="ignore", divide="ignore"):
                scale = 1.0 / (deviation * peak)
            result["scale"][k] = scale if np.isfinite(scale) else 0.0
        if normalize == "quantile":
            result["quantiles"][:, k] = np.quantile(column, np.linspace(0, 1, QUANTILES))
    return result


def extent(normalize: str, clip: float) -> float:
    """Return the largest absolute value of a scaled number."""
    return float(np.sqrt(3.0)) if normalize == "quantile" else clip


def scale_columns(
    matrix: np.ndarray, statistics: Statistics, normalize: str, clip: float
) -> np.ndarray:
    """Return numbers of mean 0 and variance 1 within the extent; 0 in constant columns."""
    if normalize == "quantile":
        z = np.empty_like(matrix)
        for k, known in enumerate(statistics["quantiles"].T):
            z[:, k] = extent(normalize, clip) * (2.0 * _ranks(matrix[:, k], known) - 1.0)
        return np.where((statistics["scale"] == 0.0) & ~np.isnan(matrix), 0.0, z)
    with np.errstate(over="ignore"):
        z = (matrix - statistics["center"]) * statistics["scale"]
    return np.clip(z, -clip, clip)


def unscale_columns(z: np.ndarray, statistics: Statistics, normalize: str) -> np.ndarray:
    """Return the numbers with the given scaled values: invert :func:`scale_columns`."""
    scale = statistics["scale"]
    if normalize != "quantile":
        return statistics["center"] + z / np.where(scale == 0.0, np.inf, scale)
    shares = np.linspace(0, 1, QUANTILES)
    result = np.empty_like(z)
    for k, known in enumerate(statistics["quantiles"].T):
        result[:, k] = np.interp((z[:, k] / np.sqrt(3.0) + 1.0) / 2.0, shares, known)
    return np.where((scale == 0.0) & ~np.isnan(z), statistics["center"], result)


def _ranks(column: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the share (n,) of the training data below every number; ties get the middle rank."""
    shares = np.linspace(0, 1, len(known))
    below = np.interp(column, known, shares)
    above = -np.interp(-column, -known[::-1], -shares[::-1])
    return 0.5 * (below + above)
