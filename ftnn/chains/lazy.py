"""Batched vectors as quimb networks, and their lazy arithmetic.

``W @ x``, ``x + y`` and ``x * y`` contract nothing: they give a :class:`Lazy` network with
several tensors per site. :func:`ftnn.compress` turns it back into an :class:`ftnn.MPS`.
"""

from html import escape

from autoray import do
from quimb.tensor import MatrixProductOperator, TensorNetwork
from quimb.tensor.tn1d.core import TensorNetwork1DVector

from ..arrays.backend import Array, check_alike
from ..arrays.functions import dims_product
from .display import format_chain, format_terms
from .network import BATCH_IND, FACTORS_TAG, TERM_IND, term_tensors
from .placement import Factor, as_factor
from .terms import Hadamard, Term


class BatchedVector(TensorNetwork1DVector):
    """A batch of vectors as one 1D network whose tensors share the batch hyper-index.

    Common base of :class:`ftnn.MPS` and :class:`Lazy`: sizes, arithmetic, dense conversion,
    and quimb contraction that keeps the batch index.
    """

    _EXTRA_PROPS: tuple[str, ...] = ("_site_tag_id", "_site_ind_id", "_L", "_batch_ind")

    __array_ufunc__ = None  # numpy scalars leave arithmetic to the methods below

    @property
    def batch_ind(self) -> str:
        """Name of the batch hyper-index."""
        return self._batch_ind

    @property
    def batch_size(self) -> int:
        """Number of samples."""
        return self.ind_size(self._batch_ind)

    @property
    def phys_dims(self) -> tuple[int, ...]:
        """Physical dimension of every site."""
        return tuple(self.ind_size(self.site_ind(k)) for k in range(self.L))

    @property
    def terms(self) -> tuple[Term, ...]:
        """Terms of the sum, as truncation methods read them."""
        raise TypeError(f"{type(self).__name__} has no terms")  # overridden by MPS and Lazy

    def contract(self, tags=..., output_inds=None, **opts):
        """Contract as quimb does, keeping the batch index and the physical indices.

        Parameters
        ----------
        tags : sequence of str, all or Ellipsis
            Tags to contract; by default everything.
        output_inds : sequence of str, optional
            By default ``(batch, k0, k1, ...)``.
        **opts
            Passed to :meth:`quimb.tensor.TensorNetwork.contract`.

        Returns
        -------
        quimb.tensor.Tensor or TensorNetwork
        """
        if tags in (all, ...):
            tags = all
            if output_inds is None:
                output_inds = (self._batch_ind, *map(self.site_ind, range(self.L)))
        return TensorNetwork.contract(self, tags, output_inds=output_inds, **opts)

    def to_dense(self) -> Array:
        """Return the dense vectors, array ``(batch, prod(phys_dims))``; site 0 is the slowest.

        Raises
        ------
        ValueError
            If a vector would have more than 2**26 entries.
        """
        size = dims_product(self.phys_dims)
        if size > 2**26:
            raise ValueError(
                f"to_dense would form {size:.3g} entries per sample (limit 2**26); "
                "work with cores, inner() and norm() instead"
            )
        return do("reshape", self._contracted(), (self.batch_size, size))

    def _contracted(self) -> Array:
        """Return the array (batch, phys, phys, ...)."""
        return self.contract(all, preserve_tensor=True).data

    def __add__(self, other):
        if not isinstance(other, BatchedVector):
            return NotImplemented
        return Lazy(self.terms + other.terms)

    def __radd__(self, other):
        """Add to 0, the start value of ``sum``."""
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def __sub__(self, other):
        if not isinstance(other, BatchedVector):
            return NotImplemented
        return self + (-1.0) * other

    __iadd__ = __add__
    __isub__ = __sub__

    def __neg__(self):
        return (-1.0) * self

    def __mul__(self, other):
        """Multiply by a vector entry by entry, by a number, or by one number for each sample.

        Parameters
        ----------
        other : MPS or Lazy, number, or array () or (batch,)
            Gradients flow through arrays on the backend of the cores.
        """
        if isinstance(other, BatchedVector):
            return Lazy(
                tuple(
                    Term(Hadamard(a.node, b.node), a.scale * b.scale)
                    for a in self.terms
                    for b in other.terms
                )
            )
        factor = self._factor(other)
        return NotImplemented if factor is None else self._times(factor)

    __rmul__ = __mul__
    __imul__ = __mul__

    def __truediv__(self, other):
        """Divide by a number, or by one number per sample."""
        if isinstance(other, BatchedVector):
            return NotImplemented
        factor = self._factor(other)
        return NotImplemented if factor is None else self._times(1.0 / factor)

    __itruediv__ = __truediv__

    def _factor(self, value: object) -> Factor | None:
        terms = self.terms
        return as_factor(value, terms[0].like, max(term.batch_size for term in terms))

    def _times(self, factor: Factor) -> "Lazy":
        return Lazy(tuple(Term(t.node, t.scale * factor) for t in self.terms))

    def __matmul__(self, other):
        """Contract with another network as quimb does; operators act from the left."""
        if isinstance(other, MatrixProductOperator):
            raise TypeError(
                f"cannot form {type(self).__name__} @ {type(other).__name__}: operators act from "
                "the left, as in W @ x"
            )
        if isinstance(other, BatchedVector):
            raise TypeError(
                "cannot form x @ y of two batches: use x.inner(y) for the inner product of every "
                "sample, or x * y for the elementwise product"
            )
        return super().__matmul__(other)

    @property
    def _is_whole(self) -> bool:
        """Whether all sites and the batch are present; a quimb selection may lack some."""
        inds = {self._batch_ind, *map(self.site_ind, range(self._L))}
        return inds <= set(self.ind_map)

    def __str__(self):
        return repr(self)


class Lazy(BatchedVector):
    """An uncontracted sum of scaled products of chains.

    As a quimb network it can be drawn, selected and contracted. A sum appears as one more
    hyper-index, ``term``, which selects the active term: at value t the tensors of term t are
    themselves and those of the other terms multiply to one. Factors are a tensor of their own,
    (term, batch).

    Parameters
    ----------
    terms : tuple of Term

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS.from_dense(np.eye(3, 8), (2, 2, 2))
    >>> lazy = ftnn.MPO.random((2, 2, 2), (2, 2, 2), bond_dim=3, seed=0) @ x + 2.0 * x
    >>> lazy.num_tensors, lazy.to_dense().shape
    (10, (3, 8))
    """

    _EXTRA_PROPS = (*BatchedVector._EXTRA_PROPS, "_terms", "_formed")

    def __init__(self, terms, *, virtual=False):
        if isinstance(terms, TensorNetwork):  # quimb's way to copy
            super().__init__(terms, virtual=virtual)
            return
        terms = tuple(terms)
        check_terms(terms)
        self._terms = terms
        self._formed: dict[int, Array] = {}
        self._L = terms[0].L
        self._site_ind_id = "k{}"
        self._site_tag_id = "I{}"
        self._batch_ind = BATCH_IND
        super().__init__(list(term_tensors(terms)), virtual=True)
        self._formed = {tid: tensor.data for tid, tensor in self.tensor_map.items()}

    @property
    def formed(self) -> dict[int, Array]:
        """Arrays of the tensors that were formed, by quimb's number; quimb hands them on."""
        return self._formed

    def check_unchanged(self) -> None:
        """Raise ``ValueError`` if quimb changed the tensors, of which the terms know nothing."""
        now = {tid: tensor.data for tid, tensor in self.tensor_map.items()}
        same = now.keys() == self._formed.keys()
        if not same or any(now[tid] is not data for tid, data in self._formed.items()):
            raise ValueError(
                "the lazy network was changed after it was formed, by a method of quimb such as "
                "conj or multiply; change the states and operators that it is made of instead"
            )

    @property
    def terms(self) -> tuple[Term, ...]:
        """Terms of the sum, as truncation methods read them."""
        return self._terms

    @property
    def bond_dims(self) -> tuple[int, ...]:
        """Bond dimension of the exact sum between neighbouring sites, ``L - 1`` numbers."""
        return tuple(sum(t.width(k) for t in self._terms) for k in range(1, self.L))

    def _contracted(self) -> Array:
        if FACTORS_TAG not in self.tag_map:
            return super()._contracted()
        terms, (factors,) = self.partition(FACTORS_TAG)
        # last: times a core, or times another factor's term, one alone might overflow
        inds = (*factors.inds, *map(self.site_ind, range(self.L)))
        data = terms.contract(all, output_inds=inds, preserve_tensor=True).data
        data = data * do("reshape", factors.data, (*factors.shape, *[1] * self.L))
        return do("sum", data, axis=0) if TERM_IND in factors.inds else data

    def __repr__(self):
        sizes = {
            "batch": self.batch_size,
            "L": self.L,
            "phys_dims": self._terms[0].phys_dims,
            "bond_dims": self.bond_dims,
        }
        return format_chain("Lazy", sizes, self._terms[0].like, format_terms(self._terms))

    def _repr_html_(self):
        return f"<samp>{escape(repr(self))}</samp>"


def check_terms(terms: tuple[Term, ...]) -> None:
    """Raise ``ValueError`` unless the terms of a sum have the same sites, dims and batch."""
    first, *others = terms
    arrays = (leg.array for term in terms for legs in term.sites for leg in legs)
    check_alike(arrays, "the operands")
    for term in (first, *others):
        _check_tree(term)
    for term in others:
        if term.phys_dims != first.phys_dims:
            raise ValueError(
                f"cannot add vectors of phys_dims {first.phys_dims} and {term.phys_dims}; "
                "both need the same sites"
            )
        if term.batch_size != first.batch_size and 1 not in (term.batch_size, first.batch_size):
            raise ValueError(
                f"cannot add batches of {first.batch_size} and {term.batch_size} samples; "
                "use equal batches, or a batch of 1 to broadcast"
            )


def _check_tree(term: Term) -> None:
    sizes: dict[tuple[int, str], int] = {}
    for k, legs in enumerate(term.sites):
        for leg in legs:
            for role, size in zip(leg.roles, leg.array.shape, strict=True):
                if role.startswith(("left", "right")):
                    continue
                if role == "batch" and size == 1:
                    continue
                known = sizes.setdefault((0 if role == "batch" else k, role), size)
                if known != size:
                    what = "batch sizes" if role == "batch" else f"dimensions at site {k}"
                    raise ValueError(
                        f"{what} {known} and {size} do not match in an elementwise product or "
                        "operator application; both factors need the same sites"
                    )
