"""``compress`` and ``truncate``: evaluate a lazy chain, without or with a report of the error."""

from dataclasses import dataclass

import numpy as np

from ..arrays.backend import to_numpy
from ..chains.bonds import MaxBond, check_memory, check_rank, output_bonds
from ..chains.lazy import BatchedVector, Lazy
from ..chains.states import MPS
from ..chains.terms import Term
from .error import estimate_weights, ranks, relative_error
from .methods import METHODS


def compress(
    lazy: BatchedVector,
    max_bond: MaxBond | None = None,
    method: str = "src",
    rtol: float = 0.0,
    seed: int = 0,
) -> MPS:
    """Evaluate a lazy chain, or re-compress an MPS, to a smaller bond dimension.

    Parameters
    ----------
    lazy : Lazy or MPS
        Result of ``W @ x``, ``x + y``, ``x * y`` and ``2.0 * x``, in any combination.
    max_bond : int or sequence of int, optional
        Largest bond dimension, of all cuts or of each of the L - 1; by default the exact one, cut
        to what the dimensions allow.
    method : {"src", "src-oversample", "direct", "dm", "zipup", "fit", "sdc"}
        Successive randomized compression (arXiv:2504.06475) and its peers; docs/methods.md
        compares them.
    rtol : float
        If 0, bonds follow from shapes alone, without synchronizing with the device. If positive,
        the smallest bonds, common to the batch, for which the error that the method knows or
        estimates is at most ``rtol`` times the norm, in every sample.
    seed : int
        Seed of the test matrices of "src", "src-oversample" and "fit": the same numbers on
        every backend.

    Returns
    -------
    MPS
        Right-canonical up to a scale.

    Raises
    ------
    TypeError
        If ``lazy`` is not a batched vector.
    ValueError
        If an option is out of range.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((2, 16)), (2, 2, 2, 2))
    >>> y = ftnn.compress(x + 2.0 * x, max_bond=4)
    >>> bool(np.allclose(y.to_dense(), 3 * x.to_dense())), y.bond_dims
    (True, (2, 4, 2))
    """
    max_bond = check(lazy, max_bond, method, rtol, seed)
    terms = lazy.terms
    if rtol == 0.0:
        _check_size(terms, max_bond)
    cores, _ = METHODS[method](terms, max_bond, rtol, seed)
    return MPS(cores)


@dataclass(frozen=True, eq=False)
class Truncation:
    """A compressed chain and its truncation error.

    Attributes
    ----------
    mps : MPS
    error : float64 array (batch,)
        Relative error ``|T - C| / |T|`` of every sample.
    error_kind : {"exact", "estimate"}
        Exact to rounding, from singular values; or estimated by random test vectors.
    discarded : float64 array (batch, L - 1)
        Relative squared weight discarded at every cut, of the same kind.
    ranks : int array (batch, L - 1)
        Bond directions of every sample that are not null.
    """

    mps: MPS
    error: np.ndarray
    error_kind: str
    discarded: np.ndarray
    ranks: np.ndarray


def truncate(
    lazy: BatchedVector,
    max_bond: MaxBond | None = None,
    method: str = "src",
    rtol: float = 0.0,
    seed: int = 0,
) -> Truncation:
    """Compress as :func:`compress` does, and report the error.

    Parameters
    ----------
    lazy, max_bond, method, rtol, seed
        As in :func:`compress`.

    Returns
    -------
    Truncation
        "direct" and "dm" know their error. For the others it is estimated with 32 random
        test vectors that the method has not used, which takes about as long as the compression.
        For very long chains products of Gaussians have heavy tails, and estimates scatter.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((2, 64)), (4, 4, 4))
    >>> result = ftnn.truncation.truncate(x, max_bond=2, method="direct")
    >>> difference = np.linalg.norm(result.mps.to_dense() - x.to_dense(), axis=1)
    >>> bool(np.allclose(result.error, difference / x.norm())), result.error_kind
    (True, 'exact')
    """
    max_bond = check(lazy, max_bond, method, rtol, seed)
    chosen = METHODS[method]
    if rtol == 0.0:
        _check_size(lazy.terms, max_bond)
    cores, discarded = chosen(lazy.terms, max_bond, rtol, seed)
    if lazy.L == 1:
        discarded = np.zeros((cores[0].shape[0], 0))
    elif discarded is None:
        discarded = estimate_weights(lazy.terms, cores, seed + 1)
    return Truncation(
        MPS(cores),
        relative_error(discarded),
        chosen.error,
        to_numpy(discarded).astype(np.float64),
        ranks(cores),
    )


def check(
    lazy: BatchedVector, max_bond: MaxBond | None, method: str, rtol: float, seed: int
) -> int | tuple[int, ...] | None:
    """Return ``max_bond``, or raise unless these are valid arguments of :func:`compress`."""
    if not isinstance(lazy, BatchedVector):
        raise TypeError(f"lazy is a {type(lazy).__name__}, expected an MPS or a lazy network")
    if isinstance(lazy, Lazy):
        lazy.check_unchanged()
    max_bond = check_rank(max_bond, rtol, lazy.L)
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; choose one of {', '.join(METHODS)}")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed is {seed!r}, expected an integer >= 0")
    return max_bond


def _check_size(terms: tuple[Term, ...], max_bond: MaxBond | None) -> None:
    """Raise ``ValueError`` if the result alone exceeds the memory of the host."""
    like, bonds = terms[0].like, output_bonds(terms, max_bond)
    if "cuda" in str(getattr(like, "device", "")):
        return  # the device may have more, and says itself when it has not
    batch = max(term.batch_size for term in terms)
    dims = terms[0].phys_dims
    shapes = [(batch, *shape) for shape in zip(bonds[:-1], dims, bonds[1:], strict=True)]
    check_memory(shapes, "max_bond", like.itemsize)
