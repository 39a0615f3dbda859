"""Batched vectors as quimb networks, and their lazy arithmetic.

``W @ x``, ``x + y`` and ``x * y`` contract nothing: they give a :class:`Lazy` network with
several tensors a site. :func:`ftnn.compress` turns it back into an :class:`ftnn.MPS`.
"""

from collections.abc import Iterable

import numpy as np
from autoray import do
from quimb.tensor import Tensor, TensorNetwork
from quimb.tensor.tn1d.core import TensorNetwork1DVector
from quimb.utils import oset

from ..arrays.backend import Array, as_like, check_alike, is_complex
from ..arrays.functions import concat, dims_product
from .terms import Hadamard, Term

BATCH_IND = "batch"


class BatchedVector(TensorNetwork1DVector):
    """A batch of vectors as one 1D network whose tensors share the batch hyper-index.

    The common part of :class:`ftnn.MPS` and :class:`Lazy`: sizes, arithmetic, dense conversion,
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
        """The sum of terms that truncation methods read."""
        raise TypeError(f"{type(self).__name__} has no terms")  # overridden by MPS and Lazy

    def contract(self, tags=..., output_inds=None, **opts):
        """Contract as quimb does, keeping the batch index and the physical indices.

        Parameters
        ----------
        tags : sequence of str, all or Ellipsis
            What to contract; by default everything.
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
        """Dense vectors, array ``(batch, prod(phys_dims))``; site 0 is the slowest.

        Raises
        ------
        ValueError
            If a vector would have more than 2**26 entries.
        """
        size = dims_product(self.phys_dims)
        if size > 2**26:
            raise ValueError(
                f"to_dense would form {size:.3g} entries a sample (limit 2**26); "
                "work with cores, inner() and norm() instead"
            )
        data = self.contract(all, preserve_tensor=True).data
        return do("reshape", data, (self.batch_size, size))

    def __add__(self, other):
        if not isinstance(other, BatchedVector):
            return NotImplemented
        return Lazy(self.terms + other.terms)

    def __sub__(self, other):
        if not isinstance(other, BatchedVector):
            return NotImplemented
        return self + (-1.0) * other

    def __neg__(self):
        return (-1.0) * self

    def __mul__(self, other):
        if isinstance(other, BatchedVector):
            return Lazy(
                tuple(
                    Term(Hadamard(a.node, b.node), a.scale * b.scale)
                    for a in self.terms
                    for b in other.terms
                )
            )
        if isinstance(other, (int, float, complex, np.number)):
            if isinstance(other, (complex, np.complexfloating)) and not is_complex(
                self.terms[0].like
            ):
                raise TypeError(
                    f"cannot multiply real cores by the complex number {other}; "
                    "convert the cores to complex64 or complex128 first"
                )
            return Lazy(tuple(Term(t.node, t.scale * other) for t in self.terms))
        return NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, other):
        if isinstance(other, (int, float, complex, np.number)):
            return self * (1.0 / other)
        return NotImplemented


class Lazy(BatchedVector):
    """A sum of products, elementwise products and scalings of chains; nothing is contracted.

    As a quimb network it can be drawn, selected and contracted. A sum appears as one more
    hyper-index, ``term``, over whose values the tensors take turns: at value t the tensors of
    term t are themselves and those of the other terms multiply to one.

    Parameters
    ----------
    terms : tuple of Term

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS.from_dense(np.eye(3, 8), (2, 2, 2))
    >>> lazy = ftnn.MPO.random((2, 2, 2), (2, 2, 2), bond_dim=3, seed=0) @ x + 2.0 * x
    >>> lazy.num_tensors, lazy.to_dense().shape
    (9, (3, 8))
    """

    _EXTRA_PROPS = (*BatchedVector._EXTRA_PROPS, "_terms")

    def __init__(self, terms, *, virtual=False):
        if isinstance(terms, TensorNetwork):  # quimb's way to copy
            super().__init__(terms, virtual=virtual)
            return
        terms = tuple(terms)
        check_terms(terms)
        self._terms = terms
        self._L = terms[0].L
        self._site_ind_id = "k{}"
        self._site_tag_id = "I{}"
        self._batch_ind = BATCH_IND
        super().__init__(list(_tensors(terms)), virtual=True)

    @property
    def terms(self) -> tuple[Term, ...]:
        """The sum of terms that truncation methods read."""
        return self._terms


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


def _tensors(terms: tuple[Term, ...]) -> Iterable[Tensor]:
    batch = max(term.batch_size for term in terms)
    L = terms[0].L
    for t, term in enumerate(terms):
        for k, legs in enumerate(term.sites):
            for n, leg in enumerate(legs):
                array, inds = leg.array, []
                if leg.roles[0] == "batch" and array.shape[0] != batch:
                    array = concat([array] * batch, 0)
                if k == n == 0 and term.scale != 1.0:
                    array = array * term.scale
                if len(terms) > 1:
                    array = _take_turns(array, leg.roles, t, len(terms))
                    inds.append("term")
                names = {"batch": BATCH_IND, "out": f"k{k}"}
                keep: list = [slice(None)] * len(inds)
                for role in leg.roles:
                    edge = (role.startswith("left") and k == 0) or (
                        role.startswith("right") and k == L - 1
                    )
                    keep.append(0 if edge else slice(None))
                    if not edge:
                        bond = {"l": f"bond{t},{n},{k}", "r": f"bond{t},{n},{k + 1}"}
                        inds.append(
                            names.get(role)
                            or (bond[role[0]] if role[0] in "lr" else f"{role},{t},{k}")
                        )
                yield Tensor(array[tuple(keep)], inds, oset([f"I{k}", f"TERM{t}", f"LAYER{n}"]))


def _take_turns(array: Array, roles: tuple[str, ...], t: int, count: int) -> Array:
    # The neutral tensor of a state has entry 1 on bond (0, 0) for every batch and out; that of
    # an operator maps the all-ones vector to itself, by reading its inner index at 0 only.
    mask = np.zeros(array.shape)
    mask[tuple(slice(1) if role[0] in "lri" else slice(None) for role in roles)] = 1.0
    blank = as_like(mask, array)
    return do("stack", [array if i == t else blank for i in range(count)])
