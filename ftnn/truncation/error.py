r"""Truncation error: exact where the method knows it, estimated by random test vectors elsewhere.

Every method is a sequence of orthogonal projections (see :mod:`ftnn.truncation.sweep`), so the
relative squared weight :math:`\delta_k` discarded at each cut determines the whole error,
:math:`\|T-C\|^2/\|T\|^2 = 1 - \prod_k(1-\delta_k)`. For a random vector :math:`\omega` with
:math:`E\,\omega\omega^\dagger = 1`, :math:`E\,|\langle\omega, v\rangle|^2 = \|v\|^2`; with fresh
Khatri-Rao rows, which the basis has not seen,

.. math:: \delta_k \approx \frac{\|Y_k(1 - Q_k^\dagger Q_k)\|^2}{\|Y_k\|^2}, \qquad
          Y_k = E_k M_k .
"""

import numpy as np
from autoray import do

from ..arrays.backend import Array, to_numpy
from ..arrays.functions import abs2, adjoint, stop_gradient
from ..chains.terms import Term
from .fit import rows
from .sketch import sketch, sketch_rows
from .src import draw_sketch
from .sum import Blocks, Sum
from .sweep import sweep

ROWS = 32
"""Number of test vectors of an estimate."""


def estimate_weights(terms: tuple[Term, ...], cores: tuple[Array, ...], seed: int) -> Array:
    """Estimate the relative squared weight discarded at every cut.

    Parameters
    ----------
    terms : tuple of Term
        The exact chain.
    cores : tuple of array (batch, left, out, right)
        Its approximation by a method, right-canonical.
    seed : int
        Seed of the test vectors, which differ from those of the method.

    Returns
    -------
    array (batch, L - 1)
    """
    total = Sum.with_unit_peaks(terms)
    omegas = draw_sketch(terms, (ROWS,), seed)
    tests = sketch_rows(total, omegas, [ROWS] * total.L)

    def basis(k: int, sites: Blocks) -> tuple[Array, Array]:
        q = rows(cores[k])
        y, _, log = sketch(tests[k], sites, ROWS)  # (batch, s, out*r), (batch, s)
        outside = y - (y @ adjoint(q)) @ q
        weight = do("exp", 2.0 * (log - do("max", log, axis=1, keepdims=True)))
        lost = do("sum", do("sum", abs2(outside), axis=2) * weight, axis=1)
        whole = do("sum", do("sum", abs2(y), axis=2) * weight, axis=1)
        return q, lost / do("where", whole > 0, whole, do("ones_like", whole))

    discarded = sweep(total, basis)[1]
    assert discarded is not None
    return stop_gradient(discarded)


def relative_error(discarded: Array | np.ndarray) -> np.ndarray:
    """Return the relative error (batch,) from the weights (batch, L - 1) discarded at the cuts."""
    lost = np.clip(to_numpy(discarded).astype(np.float64), 0.0, 1.0)
    return np.sqrt(-np.expm1(np.sum(np.log1p(-np.minimum(lost, 1.0 - 1e-16)), axis=1)))


def ranks(cores: tuple[Array, ...]) -> np.ndarray:
    """Count the directions of every bond that are not null, int array (batch, L - 1)."""
    counts = [
        np.any(to_numpy(core).reshape(*core.shape[:2], -1) != 0, axis=2).sum(axis=1)
        for core in cores[1:]
    ]
    return np.stack(counts, axis=1) if counts else np.zeros((cores[0].shape[0], 0), dtype=np.int64)
