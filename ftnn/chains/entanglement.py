"""Entanglement of states: spectra and entropies across bonds, mutual information of sites.

In double precision, batched, on the backend of the cores; spectra and entropies have gradients.
"""

from collections.abc import Sequence

import numpy as np
from autoray import do, get_dtype_name

from ..arrays.backend import Array, to_numpy, widest
from ..arrays.contraction import contract
from ..arrays.functions import (
    concat,
    diagonal,
    matrix_transpose,
    permute,
    singular_values,
    stack,
    sum_over,
)
from ..arrays.scales import safe_norm
from .canonical import canonical_cores, cut_factors, isometry, reverse_chain
from .terms import Cores

_LARGEST = 2**24
"""Entries of the reduced density matrices in memory at a time."""


def bond_spectra(cores: Cores) -> list[Array]:
    """Compute the normalized singular values across every bond.

    Parameters
    ----------
    cores : tuple of array (batch, left, phys, right)
        On any backend.

    Returns
    -------
    list of array (batch, bond)
        One per bond, descending; the squares of a row sum to 1, to 0 for a zero vector. In double
        precision where the backend has it.

    Notes
    -----
    Differentiable, also where singular values are equal or zero. They are those of the product of
    the triangular factors of both sides, see :func:`ftnn.chains.canonical.cut_factors`.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> bell = ftnn.MPS.from_dense(np.array([[1.0, 0.0, 0.0, 1.0]]), (2, 2))
    >>> print(bond_spectra(bell.cores)[0].round(4))
    [[0.7071 0.7071]]
    """
    chain = tuple(widest(core) for core in cores)
    lefts = cut_factors(chain)
    rights = cut_factors(reverse_chain(chain))[::-1]
    spectra = []
    for core, left, right in zip(cores[:-1], lefts, rights, strict=True):
        s = singular_values(left @ matrix_transpose(right))
        norm = safe_norm(s, (1,))[:, None]
        s = s / do("where", norm > 0, norm, do("ones_like", norm))
        missing = core.shape[3] - s.shape[1]
        none = do("zeros", (s.shape[0], missing), like=s)
        spectra.append(concat([s, none], 1) if missing else s)
    return spectra


def entanglement_entropies(cores: Cores) -> Array:
    r"""Compute the von Neumann entropy :math:`-\sum_i p_i \log p_i` across every bond, in nats.

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
    return spectral_entropies(bond_spectra(cores), cores)


def spectral_entropies(spectra: list[Array], cores: Cores) -> Array:
    """Return entropies (batch, L - 1) of the spectra that :func:`bond_spectra` returns."""
    if not spectra:
        return do("zeros", (cores[0].shape[0], 0), like=do("real", widest(cores[0])))
    return stack([_entropy(s * s) for s in spectra], 1)


def operator_cores(weights: Sequence[Array]) -> tuple[np.ndarray, ...]:
    """Return MPO cores ``(left, out, in, right)`` as a batch of one MPS with fused ``out * in``."""
    return tuple(
        double(w).reshape(1, w.shape[0], w.shape[1] * w.shape[2], w.shape[3]) for w in weights
    )


def mutual_information(cores: Cores) -> Array:
    r"""Compute the mutual information :math:`S_i + S_j - S_{ij}` of all pairs of sites, in nats.

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
    parts = (
        _mutual_information(tuple(core[n : n + rows] for core in cores))
        for n in range(0, batch, rows)
    )
    return concat(list(parts), 0)


def _mutual_information(cores: Cores) -> Array:
    chain, _ = canonical_cores(tuple(widest(core) for core in cores), 0)
    chain = tuple(_narrowed(core) for core in chain)
    batch, L = chain[0].shape[0], len(chain)
    center, single, joint = chain[0], [], {}
    for i in range(L):
        # all right of site i is an isometry, and all left of it: their environments are identities
        pair = _einsum("blpr,blqs->bpqrs", center, do("conj", center))
        single.append(_von_neumann(sum_over(diagonal(pair), (-1,))))
        for j in range(i + 1, L):
            site, bra = chain[j], do("conj", chain[j])
            half = _einsum("bpqrs,brxt->bpqsxt", pair, site)
            both = _einsum("bpqsxt,bsyt->bpxqy", half, bra)
            size = both.shape[1] * both.shape[2]
            joint[i, j] = _von_neumann(do("reshape", both, (batch, size, size)))
            pair = _einsum("bpqsxt,bsxu->bpqtu", half, bra)
        if i < L - 1:
            after = chain[i + 1]
            _, r = isometry(do("reshape", center, (batch, -1, center.shape[3])))
            center = r @ do("reshape", after, (batch, after.shape[1], -1))
            center = do("reshape", center, (batch, -1, *after.shape[2:]))
    information = {(i, j): single[i] + single[j] - joint[i, j] for i, j in joint}
    zero = do("zeros_like", single[0])  # (batch,)
    rows = ([information.get((min(i, j), max(i, j)), zero) for j in range(L)] for i in range(L))
    return stack([stack(row, 1) for row in rows], 1)


def _einsum(equation: str, *arrays: Array) -> Array:
    inputs, output = equation.split("->")
    return contract(list(arrays), [tuple(names) for names in inputs.split(",")], tuple(output))


def _narrowed(core: Array) -> Array:
    """Return a core (batch, left, phys, right) with at most left * right physical entries.

    As a matrix (phys, left * right) it is Q R; without the isometry Q on the physical index the
    reduced density matrices lose only zero eigenvalues.
    """
    batch, left, phys, right = core.shape
    if phys <= left * right:
        return core
    flat = do("reshape", permute(core, 0, 2, 1, 3), (batch, phys, left * right))
    _, r = isometry(flat)  # (batch, left*right, left*right)
    return permute(do("reshape", r, (batch, left * right, left, right)), 0, 2, 1, 3)


def _von_neumann(rho: Array) -> Array:
    """Return the entropies (batch,) of Hermitian matrices (batch, n, n) of trace 1, or 0."""
    return _entropy(do("linalg.eigvalsh", rho))


def _entropy(p: Array) -> Array:
    """Return the entropies (batch,) of probabilities (batch, n); nonpositive ones count as zero."""
    none = p <= 0
    p, q = (do("where", none, one, p) for one in (do("zeros_like", p), do("ones_like", p)))
    return sum_over(-p * do("log", q), (1,)) + 0.0


def double(x: Array) -> np.ndarray:
    """Return a double-precision NumPy copy of an array of any backend."""
    return to_numpy(x).astype("complex128" if "complex" in get_dtype_name(x) else "float64")
