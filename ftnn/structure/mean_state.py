r"""The mean of the product states of the rows of a table: what states are to an array of samples.

A row becomes the product of the vectors :math:`(1, z_k/\sqrt{L})` of its L columns, where z are the
ranks of a column, shifted and scaled to mean 0 and variance 1. The mean over the rows holds the
moments of the columns, :math:`\langle z_i z_j \cdots \rangle L^{-m/2}`: the entropy of a cut, and
its Schmidt coefficients, tell what moments connect both sides. Ranks, since moments of high order
are otherwise those of few outliers.
"""

import numpy as np
from scipy.stats import rankdata

MOST_COLUMNS = 16
"""Columns of which the mean state, of 2**columns entries, is formed."""

MOST_SAMPLES = 512
"""Samples whose Gram matrices are taken, the first ones, for the spectra of longer chains."""


def mean_state(values: np.ndarray) -> np.ndarray:
    """Return the mean state (1, 2, 2, ...) of samples (samples, sites).

    Examples
    --------
    >>> mean_state(np.array([[1.0, 5.0], [2.0, 6.0]]))
    array([[[1. , 0. ],
            [0. , 0.5]]])
    """
    vectors = np.stack([np.ones_like(values), _scores(values)], axis=2)  # (samples, sites, 2)
    half = values.shape[1] // 2
    sides = []
    for part in (vectors[:, :half], vectors[:, half:]):
        product = np.ones((len(values), 1))
        for k in range(part.shape[1]):
            product = (product[:, :, None] * part[:, k, None]).reshape(len(values), -1)
        sides.append(product)
    return (sides[0].T @ sides[1] / len(values)).reshape(1, *(2,) * values.shape[1])


def mean_spectra(values: np.ndarray) -> list[np.ndarray]:
    """Return squared Schmidt coefficients, of sum 1, across the cuts of the mean state.

    With A and B the products (samples, left) and (samples, right) of the site vectors on both
    sides, the mean state is A^T B / n. Its singular values are those of the product of the roots of
    the Gram matrices A A^T and B B^T, whose entries are products over sites of inner products.
    """
    z = _scores(values[:MOST_SAMPLES])
    kernels = 1.0 + z.T[:, :, None] * z.T[:, None, :]  # (sites, n, n)
    lefts = np.cumprod(kernels[:-1], axis=0)
    rights = np.cumprod(kernels[:0:-1], axis=0)[::-1]
    spectra = []
    for left, right in zip(lefts, rights, strict=True):
        s = np.linalg.svd(_root(left).T @ _root(right), compute_uv=False)
        spectra.append(s**2 / np.sum(s**2))
    return spectra


def _scores(values: np.ndarray) -> np.ndarray:
    """Return the ranks of every column, of mean 0 and variance 1 / sites; 0 for a constant."""
    ranks = rankdata(values, axis=0) - (len(values) + 1) / 2
    deviation = ranks.std(0)
    return ranks / np.where(deviation > 0, deviation, 1.0) / np.sqrt(values.shape[1])


def _root(gram: np.ndarray) -> np.ndarray:
    """Return X with X X^T = gram, without what rounding adds."""
    values, vectors = np.linalg.eigh(gram)
    kept = values > 1e-13 * values[-1]
    return vectors[:, kept] * np.sqrt(values[kept])
