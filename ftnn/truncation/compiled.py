"""Truncation as one graph of torch.compile."""

from collections.abc import Callable

from autoray import infer_backend

from ..arrays.dispatch import load_backend
from ..chains.bonds import MaxBond
from ..chains.lazy import BatchedVector
from ..chains.states import MPS
from .compress import check
from .methods import METHODS


def compiled(
    max_bond: MaxBond | None = None, method: str = "src", seed: int = 0
) -> Callable[[BatchedVector], MPS]:
    """Make a :func:`ftnn.compress` with fixed bonds, compiled by torch.

    Parameters
    ----------
    max_bond, method, seed
        As in :func:`ftnn.compress`.

    Returns
    -------
    callable
        Maps a lazy chain or an MPS of torch tensors to an MPS, with gradients. Its first call
        with new shapes, or a chain of new structure, compiles for some ten seconds; torch keeps
        eight such variants (``torch._dynamo.config.recompile_limit``).

    Raises
    ------
    TypeError
        Raised by the callable if the chain does not hold torch tensors.

    Examples
    --------
    >>> import ftnn, torch
    >>> fast = ftnn.truncation.compiled(max_bond=2)
    >>> x = ftnn.MPS.from_dense(torch.rand(5, 16), (2, 2, 2, 2))
    >>> with torch.compiler.set_stance("force_eager"):  # a test that need not compile
    ...     fast(x * x).bond_dims
    (2, 2, 2)
    """
    import torch

    load_backend("torch")  # the compiler cannot follow imports

    def run(terms, bonds):
        return METHODS[method](terms, bonds, 0.0, seed)[0]

    graph = torch.compile(run, fullgraph=True, dynamic=False)

    def compress(lazy: BatchedVector) -> MPS:
        bonds = check(lazy, max_bond, method, 0.0, seed)
        if infer_backend(lazy.terms[0].like) != "torch":
            raise TypeError(
                f"lazy lives on {infer_backend(lazy.terms[0].like)}, but only torch compiles; "
                "use ftnn.compress, or move the cores to torch"
            )
        return MPS(graph(lazy.terms, bonds))

    return compress
