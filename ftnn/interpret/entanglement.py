"""Entanglement of states: spectra and entropies across bonds, mutual information of sites.

In double precision on NumPy, whatever backend the cores live on.
"""

from collections.abc import Sequence

import numpy as np
from autoray import get_dtype_name
from scipy.special import xlogy

from ..arrays.backend import Array, to_numpy
from ..chains.terms import Cores

_LARGEST = 2**24
"""Entries of the reduced density matrices that are held at a time."""


def bond_spectra(cores: Cores) -> list[np.ndarray]:
    """Compute the normalized singular values across every bond.

    Parameters
    ----------
    cores : tuple of array (batch, left, phys, right)
        On any backend.

    Returns
    -------
    list of array (batch, bond)
        One a bond, descending; the squares of a row sum to 1, to 0 for a zero vector.
    """
    bonds = [core.shape[3] for core in cores[:-1]]
    chain = _right_canonical(cores)
    # left to right: the SVD of a core is that of the vector
    spectra = []
    for k, bond in enumerate(bonds):
        batch, left, phys, right = chain[k].shape
        _, s, vh = np.linalg.svd(chain[k].reshape(batch, left * phys, right), full_matrices=False)
        norm = np.linalg.norm(s, axis=1, keepdims=True)
        s = s / np.where(norm > 0, norm, 1.0)
        spectra.append(np.pad(s, ((0, 0), (0, bond - s.shape[1]))))
        after = chain[k + 1]
        carried = (s[:, :, None] * vh) @ after.reshape(batch, right, -1)
        chain[k + 1] = carried.reshape(batch, -1, *after.shape[2:])
    return spectra


def entanglement_entropies(cores: Cores) -> np.ndarray:
    r"""Von Neumann entropy :math:`-\sum_i p_i \log p_i` across every bond, in nats.

    Parameters
    ----------
    cores : tuple of array (batch, left, phys, right)
        On any backend. For an operator use :func:`operator_cores`.

    Returns
    -------
    array (batch, L - 1)
        0 for a product state, at most the logarithm of the bond dimension.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> bell = ftnn.MPS.from_dense(np.array([[1.0, 0.0, 0.0, 1.0]]), (2, 2))
    >>> bool(np.isclose(entanglement_entropies(bell.cores)[0, 0], np.log(2)))
    True
    """
    return spectral_entropies(bond_spectra(cores), int(cores[0].shape[0]))


def spectral_entropies(spectra: list[np.ndarray], batch: int) -> np.ndarray:
    """Entropies (batch, L - 1) of the spectra that :func:`bond_spectra` returns."""
    if not spectra:
        return np.zeros((batch, 0))
    squares = [s**2 for s in spectra]
    return np.stack([-np.sum(xlogy(p, p), axis=1) + 0.0 for p in squares], axis=1)


def operator_cores(weights: Sequence[Array]) -> tuple[np.ndarray, ...]:
    """MPO cores ``(left, out, in, right)`` as a batch of one MPS with fused ``out * in``."""
    return tuple(
        double(w).reshape(1, w.shape[0], w.shape[1] * w.shape[2], w.shape[3]) for w in weights
    )


def mutual_information(cores: Cores) -> np.ndarray:
    r"""Mutual information :math:`S_i + S_j - S_{ij}` of every two sites, in nats.

    S are von Neumann entropies of reduced density matrices: the information that sites i and j
    hold about each other, at most twice the logarithm of the smaller dimension.

    Parameters
    ----------
    cores : tuple of array (batch, left, phys, right)
        On any backend. The cost grows as the square of the number of sites, and as the sixth
        power of the physical dimension, or of the product of the bonds at the site if smaller.

    Returns
    -------
    array (batch, L, L)
        Symmetric, with zeros on the diagonal; zero for a zero vector.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> bell = ftnn.MPS.from_dense(np.array([[1.0, 0.0, 0.0, 1.0]]), (2, 2))
    >>> bool(np.isclose(mutual_information(bell.cores)[0, 0, 1], 2 * np.log(2)))
    True
    """
    largest = max((min(c.shape[2], c.shape[1] * c.shape[3]) for c in cores), default=1)
    rows = max(1, _LARGEST // largest**4)
    batch = int(cores[0].shape[0])
    return np.concatenate(
        [
            _mutual_information(tuple(core[n : n + rows] for core in cores))
            for n in range(0, batch, rows)
        ]
    )


def _mutual_information(cores: Cores) -> np.ndarray:
    chain = [_narrowed(core) for core in _right_canonical(cores)]
    chain[0] = _unit(chain[0].reshape(len(chain[0]), -1, 1)).reshape(chain[0].shape)
    batch, L = len(chain[0]), len(chain)
    single, joint = np.zeros((batch, L)), np.zeros((batch, L, L))
    for i in range(L):
        # all right of site i is an isometry, and all left of it
        pair = np.einsum("blpr,blqs->bpqrs", chain[i], chain[i].conj(), optimize=True)
        single[:, i] = _von_neumann(np.einsum("bpqrr->bpq", pair))
        for j in range(i + 1, L):
            site = chain[j]
            half = np.einsum("bpqrs,brxt->bpqsxt", pair, site, optimize=True)
            both = np.einsum("bpqsxt,bsyt->bpxqy", half, site.conj(), optimize=True)
            size = both.shape[1] * both.shape[2]
            joint[:, i, j] = _von_neumann(both.reshape(batch, size, size))
            pair = np.einsum("bpqsxt,bsxu->bpqtu", half, site.conj(), optimize=True)
        if i < L - 1:
            _, left, phys, right = chain[i].shape
            r = np.linalg.qr(chain[i].reshape(batch, left * phys, right), mode="r")
            chain[i + 1] = np.einsum("bnl,blpr->bnpr", r, chain[i + 1])
    upper = np.triu(single[:, :, None] + single[:, None, :] - joint, 1)
    return upper + np.swapaxes(upper, 1, 2)


def _narrowed(core: np.ndarray) -> np.ndarray:
    """Core (batch, left, phys, right) with at most left * right physical entries.

    As a matrix (phys, left * right) it is Q R; without the isometry Q on the physical index the
    reduced density matrices lose only zeros of their spectrum.
    """
    batch, left, phys, right = core.shape
    if phys <= left * right:
        return core
    flat = core.transpose(0, 2, 1, 3).reshape(batch, phys, left * right)
    _, r = np.linalg.qr(flat)  # (batch, left*right, left*right)
    return r.reshape(batch, left * right, left, right).transpose(0, 2, 1, 3)


def _von_neumann(rho: np.ndarray) -> np.ndarray:
    """Entropies (batch,) of Hermitian matrices (batch, n, n) of trace 1, or 0."""
    p = np.clip(np.linalg.eigvalsh(rho), 0.0, None)
    return -np.sum(xlogy(p, p), axis=1)


def double(x: Array) -> np.ndarray:
    """Copy of an array of any backend in double precision on NumPy."""
    return to_numpy(x).astype("complex128" if "complex" in get_dtype_name(x) else "float64")


def _right_canonical(cores: Cores) -> list[np.ndarray]:
    """Cores in double precision, isometries to the right of the first but for its scale."""
    chain = [double(core) for core in cores]
    for k in range(len(chain) - 1, 0, -1):
        batch, left, phys, right = chain[k].shape
        flat = chain[k].reshape(batch, left, phys * right)
        q, r = np.linalg.qr(np.swapaxes(flat, 1, 2))  # (batch, phys*right, n), (batch, n, left)
        chain[k] = np.swapaxes(q, 1, 2).reshape(batch, -1, phys, right)
        carried = np.swapaxes(_unit(r), 1, 2)  # (batch, left, n)
        chain[k - 1] = chain[k - 1] @ carried[:, None]
    return chain


def _unit(matrix: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(matrix, axis=(1, 2), keepdims=True)
    return matrix / np.where(norm > 0, norm, 1.0)
