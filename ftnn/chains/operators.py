"""MPO: a matrix product operator."""

from collections.abc import Sequence

import numpy as np
import quimb.tensor as qtn
from autoray import do

from ..arrays.backend import Array, check_finite, check_floating
from ..arrays.functions import dims_product, permute
from ..arrays.random import random_generator
from .bonds import MaxBond, check_bonds, check_memory, check_rank, cut_bonds
from .cores import check_operator_cores, operator_cores
from .dims import check_both_dims
from .display import chain_html, format_chain
from .lazy import BatchedVector, Lazy
from .placement import as_factor, move
from .terms import Apply, Term
from .tt_svd import tt_svd


class MPO(qtn.MatrixProductOperator):
    """A matrix product operator: the tensor-train form of a matrix ``(prod out, prod in)``.

    Parameters
    ----------
    cores : sequence of array (left, out, in, right)
        One floating array per site, all on one backend; the bonds at both ends have size 1.

    Raises
    ------
    TypeError
        If a core is not a floating array.
    ValueError
        If neighbouring bonds do not match.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> W = ftnn.MPO.random(out_dims=(3, 3), in_dims=(2, 2), bond_dim=4, seed=0)
    >>> x = ftnn.MPS.from_dense(np.eye(4), (2, 2))
    >>> y = ftnn.compress(W @ x)
    >>> bool(np.allclose(y.to_dense().T, W.to_dense()))
    True
    """

    __array_ufunc__ = None  # numpy scalars leave arithmetic to the methods below

    def __init__(self, cores, *, virtual=False):
        if isinstance(cores, qtn.MatrixProductOperator):  # quimb's way to copy
            super().__init__(cores, virtual=virtual)
            return
        cores = tuple(cores)
        check_operator_cores(cores)
        arrays = list(cores)
        arrays[-1] = arrays[-1][..., 0]
        arrays[0] = arrays[0][0]
        super().__init__(arrays, shape="ludr")

    @classmethod
    def from_dense(
        cls,
        matrix: Array,
        out_dims: Sequence[int],
        in_dims: Sequence[int],
        max_bond: MaxBond | None = None,
        rtol: float = 0.0,
    ) -> "MPO":
        """Decompose a dense matrix by TT-SVD.

        Parameters
        ----------
        matrix : array (prod(out_dims), prod(in_dims))
            Floating and finite.
        out_dims, in_dims : sequence of int
            Equally many sites.
        max_bond : int or sequence of int, optional
            Largest bond dimension, of all cuts or of each.
        rtol : float
            Relative Frobenius error allowed.

        Returns
        -------
        MPO
        """
        check_floating(matrix, "matrix")
        in_dims, out_dims = check_both_dims(in_dims, out_dims)
        max_bond = check_rank(max_bond, rtol, len(out_dims))
        expected = (dims_product(out_dims), dims_product(in_dims))
        if tuple(matrix.shape) != expected:
            raise ValueError(
                f"matrix has shape {tuple(matrix.shape)}, but out_dims {out_dims} and in_dims "
                f"{in_dims} multiply to {expected}"
            )
        check_finite(matrix, "matrix")
        L = len(out_dims)
        bonds = weight_bonds(out_dims, in_dims, max_bond)
        shapes = zip(bonds[:-1], out_dims, in_dims, bonds[1:], strict=True)
        check_memory(shapes, "max_bond", matrix.itemsize)
        grid = do("reshape", matrix, (*out_dims, *in_dims))
        grid = permute(grid, *(axis for k in range(L) for axis in (k, L + k)))
        pairs = tuple(o * i for o, i in zip(out_dims, in_dims, strict=True))
        cores = tt_svd(do("reshape", grid, (1, -1)), pairs, max_bond, rtol)
        return cls(
            do("reshape", c, (c.shape[1], o, i, c.shape[3]))
            for c, o, i in zip(cores, out_dims, in_dims, strict=True)
        )

    @classmethod
    def from_quimb(cls, operator: qtn.MatrixProductOperator) -> "MPO":
        """Convert a quimb operator; its upper indices are the outputs.

        Parameters
        ----------
        operator : quimb MatrixProductOperator
            Open boundary conditions.

        Returns
        -------
        MPO

        Examples
        --------
        >>> import quimb.tensor as qtn
        >>> MPO.from_quimb(qtn.MPO_ham_heis(4)).bond_dims
        (5, 5, 5)
        """
        if not isinstance(operator, qtn.MatrixProductOperator):
            raise TypeError(
                f"operator is a {type(operator).__name__}, expected a MatrixProductOperator"
            )
        if operator.cyclic:
            raise ValueError("operator is cyclic; only open boundaries are supported")
        return cls(operator_cores(operator))

    @classmethod
    def random(
        cls,
        out_dims: Sequence[int],
        in_dims: Sequence[int],
        bond_dim: MaxBond,
        seed: int | None = None,
    ) -> "MPO":
        """Draw Gaussian cores whose matrix has entries of variance ``1 / prod(in_dims)``.

        Parameters
        ----------
        out_dims, in_dims : sequence of int
        bond_dim : int or sequence of int
            Bond dimension, of all cuts or of each, cut to what the dimensions allow.
        seed : int, optional

        Returns
        -------
        MPO
            float64, on NumPy.

        Raises
        ------
        ValueError
            If dims and bonds do not fit together, or the cores would not fit into memory.
        """
        in_dims, out_dims = check_both_dims(in_dims, out_dims)
        bond_dim = check_bonds(bond_dim, len(out_dims), "bond_dim")
        bonds = weight_bonds(out_dims, in_dims, bond_dim)
        shapes = list(zip(bonds[:-1], out_dims, in_dims, bonds[1:], strict=True))
        check_memory(shapes, "bond_dim")
        rng = np.random.default_rng() if seed is None else random_generator(seed)
        return cls(rng.standard_normal(shape) / np.sqrt(shape[2] * shape[3]) for shape in shapes)

    @property
    def cores(self) -> tuple[Array, ...]:
        """Core arrays in the layout ``(left, out, in, right)``."""
        return operator_cores(self)

    @property
    def out_dims(self) -> tuple[int, ...]:
        """Output dimension of every site."""
        return tuple(self.ind_size(self.upper_ind(k)) for k in range(self.L))

    @property
    def in_dims(self) -> tuple[int, ...]:
        """Input dimension of every site."""
        return tuple(self.ind_size(self.lower_ind(k)) for k in range(self.L))

    @property
    def bond_dims(self) -> tuple[int, ...]:
        """Bond dimension between neighbouring sites, ``L - 1`` numbers."""
        return tuple(core.shape[3] for core in self.cores[:-1])

    def to_dense(self) -> Array:
        """Return the dense matrix ``(prod(out_dims), prod(in_dims))``; site 0 is the slowest."""
        size = dims_product(self.out_dims) * dims_product(self.in_dims)
        if size > 2**26:
            raise ValueError(f"to_dense would form {size:.3g} entries (limit 2**26)")
        inds = (*map(self.upper_ind, range(self.L)), *map(self.lower_ind, range(self.L)))
        data = self.contract(all, output_inds=inds, preserve_tensor=True).data
        return do("reshape", data, (dims_product(self.out_dims), dims_product(self.in_dims)))

    def to(self, backend: str, dtype: str | None = None, device: str | None = None) -> "MPO":
        """Return the operator on a backend, dtype and device, as :meth:`ftnn.MPS.to` does.

        Parameters
        ----------
        backend, dtype, device
            As in :meth:`ftnn.MPS.to`.

        Returns
        -------
        MPO
            A new operator with the same index names and tags.
        """
        new = self.copy()
        new.apply_to_arrays(lambda array: move(array, backend, dtype, device))
        return new

    @property
    def _is_whole(self) -> bool:
        """Whether all sites are present; a quimb selection may lack some."""
        inds = {*map(self.upper_ind, range(self.L)), *map(self.lower_ind, range(self.L))}
        return inds <= set(self.ind_map)

    def __repr__(self):
        if not self._is_whole:
            return super().__repr__()
        sizes = {
            "L": self.L,
            "out_dims": self.out_dims,
            "in_dims": self.in_dims,
            "bond_dims": self.bond_dims,
        }
        return format_chain("MPO", sizes, self.arrays[0])

    def __str__(self):
        return repr(self)

    def _repr_html_(self):
        if not self._is_whole:
            return super()._repr_html_()
        return chain_html(repr(self), self.bond_dims, self.in_dims, self.out_dims)

    def __mul__(self, other):
        """Multiply by a number, or by an array () whose gradient flows through."""
        if isinstance(other, (int, float, complex)):
            return super().__mul__(other)
        factor = as_factor(other, self.arrays[0], 1)
        if factor is None:
            return NotImplemented
        new = self.copy()
        first = new[new.site_tag(0)]
        first.modify(data=first.data * factor)
        return new

    __rmul__ = __mul__

    def __matmul__(self, other):
        """Apply to an MPS or a lazy vector, lazily."""
        if not isinstance(other, (qtn.Tensor, qtn.TensorNetwork)):
            raise TypeError(
                f"cannot form MPO @ {type(other).__name__}: expected an MPS or a lazy vector; "
                "encode a dense one with MPS.from_dense"
            )
        if isinstance(other, qtn.MatrixProductOperator):
            raise TypeError(
                f"cannot form MPO @ {type(other).__name__}: operators act on states; apply one "
                "after the other, as in V @ (W @ x), or multiply them exactly by V.apply(W)"
            )
        if not isinstance(other, BatchedVector):
            return super().__matmul__(other)
        if other.phys_dims != self.in_dims:
            raise ValueError(
                f"the operator has in_dims {self.in_dims}, but the vector has phys_dims "
                f"{other.phys_dims}"
            )
        cores = self.cores
        return Lazy(tuple(Term(Apply(cores, t.node), t.scale) for t in other.terms))


def weight_bonds(
    out_dims: tuple[int, ...], in_dims: tuple[int, ...], bond_dim: MaxBond | None
) -> tuple[int, ...]:
    """Return the bond left of every site and right of the last, cut to the exact rank."""
    sizes = [o * i for o, i in zip(out_dims, in_dims, strict=True)]
    return cut_bonds(sizes, bond_dim)
