"""``compress``: evaluate a lazy chain."""

from ..backend import Array, as_like
from ..lazy import BatchedVector
from ..linalg import test_matrices
from ..states import MPS, check_rank
from .direct import compress_direct
from .src import compress_src, output_bonds

METHODS = ("direct", "src")


def compress(
    lazy: BatchedVector,
    max_bond: int | None = None,
    method: str = "src",
    rtol: float = 0.0,
    seed: int = 0,
) -> MPS:
    """Evaluate a lazy chain, or re-compress an MPS, to a smaller bond dimension.

    Parameters
    ----------
    lazy : Lazy or MPS
        What ``W @ x``, ``x + y``, ``x * y`` and ``2.0 * x`` give, in any combination.
    max_bond : int, optional
        Largest bond dimension; by default the exact one, cut to what the dimensions allow.
    method : {"src", "direct"}
        Successive randomized compression (arXiv:2504.06475), or SVDs of the merged chain.
    rtol : float
        Relative error allowed for each sample; for "direct" only.
    seed : int
        Seed of the test matrices of "src": the same numbers on every backend.

    Returns
    -------
    MPS

    Raises
    ------
    TypeError
        If ``lazy`` is not a batched vector.
    ValueError
        If an option is out of range, or is not one of the chosen method.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((2, 16)), (2, 2, 2, 2))
    >>> y = ftnn.compress(x + 2.0 * x, max_bond=4)
    >>> bool(np.allclose(y.to_dense(), 3 * x.to_dense())), y.bond_dims
    (True, (2, 4, 2))
    """
    if not isinstance(lazy, BatchedVector):
        raise TypeError(f"lazy is a {type(lazy).__name__}, expected an MPS or a lazy network")
    check_rank(max_bond, rtol)
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; choose one of {', '.join(METHODS)}")
    terms = lazy.terms
    if method == "direct":
        return MPS(compress_direct(terms, max_bond, rtol))
    if rtol != 0.0:
        raise ValueError(
            f"method 'src' has a fixed bond and takes no rtol, got {rtol}; "
            "give max_bond, or use method='direct'"
        )
    if max_bond is None:
        max_bond = max(sum(term.width(k) for term in terms) for k in range(lazy.L + 1))
    size = max(output_bonds(terms, max_bond))
    like: Array = terms[0].sites[0][0].array
    omegas = tuple(as_like(o, like) for o in test_matrices(lazy.phys_dims, size, seed))
    return MPS(compress_src(terms, omegas, max_bond))
