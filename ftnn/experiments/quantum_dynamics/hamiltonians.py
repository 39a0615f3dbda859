r"""Hamiltonians of interacting spin chains, as sums of terms on neighbouring sites.

``ising``: the mixed-field Ising chain, which is not integrable,

.. math:: H = \sum_k Z_k Z_{k+1} + \sum_k (h^x_k X_k + h^z_k Z_k),

with fields that vary by site, :math:`h^x_k` and :math:`h^z_k` evenly distributed within a tenth of
0.9045 and of 0.809; in units of J = 1. ``imaginary``:

.. math:: H = \sum_k (Y_k Z_{k+1} + \tfrac12 X_k Y_{k+1}) + 0.8 \sum_k Y_k,

whose matrix elements are imaginary, so that :math:`e^{-iHt}` is real.
"""

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from quimb.tensor import LocalHam1D

Name = Literal["ising", "imaginary", "other"]

X = np.array([[0.0, 1.0], [1.0, 0.0]], dtype=complex)
Y = np.array([[0.0, -1.0j], [1.0j, 0.0]])
Z = np.diag([1.0, -1.0]).astype(complex)

FIELDS = (0.9045, 0.809)
VARIATION = 0.1
_SEED = 0


def hamiltonian(name: Name, sites: int) -> "LocalHam1D":
    """Return a Hamiltonian; "other" is one that only prepares states to test with.

    Parameters
    ----------
    name : {"ising", "imaginary", "other"}
    sites : int
        At least 2.

    Returns
    -------
    quimb.tensor.LocalHam1D

    Examples
    --------
    >>> hamiltonian("ising", 3).get_gate((0, 1)).shape
    (4, 4)
    """
    from quimb.tensor import LocalHam1D

    pair, single = terms(name, sites)
    return LocalHam1D(sites, H2=pair, H1=dict(enumerate(single)))


def terms(name: Name, sites: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the term of every pair of neighbours (4, 4), and that of each site (2, 2)."""
    if name == "ising":
        shifts = np.random.default_rng(_SEED).uniform(-VARIATION, VARIATION, (2, sites))
        hx, hz = np.array(FIELDS)[:, None] * (1.0 + shifts)
        return np.kron(Z, Z), [hx[k] * X + hz[k] * Z for k in range(sites)]
    if name == "imaginary":
        return np.kron(Y, Z) + 0.5 * np.kron(X, Y), [0.8 * Y] * sites
    # imaginary, too, so that it leaves real states real
    return np.kron(Z, Y) + 0.7 * np.kron(Y, X), [0.5 * Y] * sites
