"""MPS: a batch of matrix product states."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import quimb.tensor as qtn
from autoray import do
from quimb.tensor import Tensor, TensorNetwork
from quimb.tensor.tn1d.core import TensorNetwork1DFlat
from quimb.utils import oset

from ..arrays.backend import (
    Array,
    as_dtype_of,
    check_alike,
    check_finite,
    check_floating,
    is_complex,
)
from ..arrays.functions import dims_product, log, permute
from .bonds import MaxBond, check_memory, check_rank, cut_bonds
from .cores import check_cores, stack_states
from .dims import check_dims
from .display import chain_html, format_chain
from .lazy import BATCH_IND, BatchedVector
from .overlap import overlap
from .placement import move
from .terms import State, Term
from .tt_svd import tt_svd


class MPS(BatchedVector, TensorNetwork1DFlat):
    """A batch of matrix product states: one quimb network with a batch hyper-index.

    Parameters
    ----------
    cores : sequence of array (batch, left, phys, right)
        One floating array per site, all on one backend; the bonds at both ends have size 1.

    Raises
    ------
    TypeError
        If a core is not a floating array.
    ValueError
        If the batch is empty or differs between cores, or neighbouring bonds do not match.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS([np.ones((5, 1, 2, 3)), np.ones((5, 3, 2, 1))])
    >>> x.batch_size, x.L, x.phys_dims, x.bond_dims
    (5, 2, (2, 2), (3,))
    >>> x.to_dense().shape, x[0].__class__.__name__
    ((5, 4), 'MatrixProductState')
    """

    def __init__(self, cores, *, virtual=False):
        if isinstance(cores, TensorNetwork):  # quimb's way to copy
            super().__init__(cores, virtual=virtual)
            return
        cores = tuple(cores)
        check_cores(cores)
        self._L = L = len(cores)
        self._site_ind_id = "k{}"
        self._site_tag_id = "I{}"
        self._batch_ind = BATCH_IND
        bonds = [qtn.rand_uuid() for _ in range(L + 1)]
        tensors = []
        for k, core in enumerate(cores):
            inds = [BATCH_IND, bonds[k], f"k{k}", bonds[k + 1]]
            if k == L - 1:
                core, _ = core[..., 0], inds.pop(3)
            if k == 0:
                core, _ = core[:, 0], inds.pop(1)
            tensors.append(Tensor(core, inds, oset([f"I{k}"])))
        super().__init__(tensors, virtual=True)

    @classmethod
    def from_dense(
        cls,
        array: Array,
        phys_dims: Sequence[int],
        max_bond: MaxBond | None = None,
        rtol: float = 0.0,
    ) -> "MPS":
        """Decompose dense vectors by batched TT-SVD.

        Parameters
        ----------
        array : array (batch, prod(phys_dims))
            Floating, finite; site 0 is the slowest index.
        phys_dims : sequence of int
        max_bond : int or sequence of int, optional
            Largest bond dimension, of all cuts or of each.
        rtol : float
            Relative error allowed for each sample (0: exact to rounding).

        Returns
        -------
        MPS
            Left-canonical; its bonds are common to the batch, padded with zeros where a sample
            needs fewer directions.

        Raises
        ------
        TypeError
            If ``array`` is not floating.
        ValueError
            If shapes do not match, the batch is empty, or entries are not finite.

        Examples
        --------
        >>> import numpy as np, ftnn
        >>> dense = np.random.default_rng(0).standard_normal((3, 24))
        >>> x = ftnn.MPS.from_dense(dense, (2, 3, 4))
        >>> bool(np.allclose(x.to_dense(), dense))
        True
        """
        check_floating(array, "array")
        dims = check_dims(phys_dims, "phys_dims")
        max_bond = check_rank(max_bond, rtol, len(dims))
        if array.ndim != 2 or array.shape[0] == 0:
            raise ValueError(
                f"array has shape {tuple(array.shape)}, expected (batch, {dims_product(dims)}) "
                "with at least one sample"
            )
        if array.shape[1] != dims_product(dims):
            raise ValueError(
                f"phys_dims {dims} multiply to {dims_product(dims)}, but array has "
                f"{array.shape[1]} columns; pad it or choose dims whose product is "
                f"{array.shape[1]}"
            )
        check_finite(array, "array")
        bonds = cut_bonds(dims, max_bond)
        shapes = [(len(array), *shape) for shape in zip(bonds[:-1], dims, bonds[1:], strict=True)]
        check_memory(shapes, "max_bond", array.itemsize)
        return cls(tt_svd(array, dims, max_bond, rtol))

    @classmethod
    def from_quimb(
        cls, states: "qtn.MatrixProductState | Iterable[qtn.MatrixProductState]"
    ) -> "MPS":
        """Stack quimb states of equal physical dimensions; bonds are padded to the largest.

        Parameters
        ----------
        states : quimb MatrixProductState or iterable of them
            Open boundary conditions.

        Returns
        -------
        MPS
        """
        return cls(stack_states(states))

    @property
    def cores(self) -> tuple[Array, ...]:
        """Core arrays in the layout ``(batch, left, phys, right)``."""
        sites = [self[self.site_tag(k)] for k in range(self.L)]
        bonds = [self._shared(*pair) for pair in pairwise(sites)]
        cores = []
        for k, tensor in enumerate(sites):
            inds = (self._batch_ind, *bonds[:k][-1:], self.site_ind(k), *bonds[k : k + 1])
            data = tensor.data
            if tensor.inds != inds:
                data = permute(data, *(tensor.inds.index(ind) for ind in inds))
            data = data[:, None] if k == 0 else data
            cores.append(data[..., None] if k == self.L - 1 else data)
        return tuple(cores)

    def bond(self, i: int, j: int) -> str:
        """Return the name of the bond between neighbouring sites ``i`` and ``j``."""
        return self._shared(self[self.site_tag(i)], self[self.site_tag(j)])

    def _shared(self, first: Tensor, second: Tensor) -> str:
        (ind,) = (i for i in second.inds if i in first.inds and i != self._batch_ind)
        return ind

    @property
    def bond_dims(self) -> tuple[int, ...]:
        """Bond dimension between neighbouring sites, ``L - 1`` numbers."""
        return tuple(self.ind_size(self.bond(k, k + 1)) for k in range(self.L - 1))

    @property
    def terms(self) -> tuple[Term, ...]:
        """The state as the only term of a lazy sum."""
        return (Term(State(self.cores)),)

    def __getitem__(self, key):
        """Return sample ``key`` as a quimb state, a slice as an MPS; select tags as quimb does."""
        if isinstance(key, (int, np.integer)):
            if not -self.batch_size <= key < self.batch_size:
                raise IndexError(f"sample {key} of a batch of {self.batch_size}")
            cores = [core[key] for core in self.cores]
            if self.L == 1:
                return qtn.MatrixProductState([cores[0][0, :, 0]])
            arrays = [cores[0][0], *cores[1:-1], cores[-1][..., 0]]
            return qtn.MatrixProductState(arrays, shape="lpr")
        if isinstance(key, slice):
            return MPS([core[key] for core in self.cores])
        return TensorNetwork.__getitem__(self, key)

    def __len__(self) -> int:
        """Return the number of samples, the length of the axis that ``x[i]`` indexes."""
        if self._batch_ind not in self.ind_map:  # of a selection
            raise TypeError("this network has no batch index, hence no length")
        return self.batch_size

    def __bool__(self) -> bool:
        """Return True, as for every network."""
        return True

    def samples(self) -> Iterator[qtn.MatrixProductState]:
        """Yield every sample as a plain quimb state.

        Iterating over the MPS itself gives its tensors, one per site, as quimb needs it.

        Examples
        --------
        >>> import numpy as np, ftnn
        >>> x = ftnn.MPS.from_dense(np.eye(3, 4), (2, 2))
        >>> len(x), [state.L for state in x.samples()], sum(1 for tensor in x)
        (3, [2, 2, 2], 2)
        """
        return (self[n] for n in range(self.batch_size))

    def to(self, backend: str, dtype: str | None = None, device: str | None = None) -> "MPS":
        """Return the states on a backend, dtype and device.

        Parameters
        ----------
        backend : {"numpy", "torch", "cupy", "jax"}
        dtype : str, optional
            "float32", "float64", "complex64" or "complex128".
        device : str, optional
            Device string of the backend, e.g. "cuda".

        Returns
        -------
        MPS
            A new MPS with the same index names and tags, whereas a layer is moved in place.
            Gradients flow through unless the backend changes.

        Examples
        --------
        >>> import numpy as np, ftnn
        >>> ftnn.MPS([np.ones((1, 1, 2, 1))]).to("torch", "float32").cores[0].dtype
        torch.float32
        """
        new = self.copy()
        new.apply_to_arrays(lambda array: move(array, backend, dtype, device))
        return new

    def __repr__(self):
        if not self._is_whole:
            return TensorNetwork.__repr__(self)
        sizes = {
            "batch": self.batch_size,
            "L": self.L,
            "phys_dims": self.phys_dims,
            "bond_dims": self.bond_dims,
        }
        return format_chain("MPS", sizes, self.arrays[0])

    def _repr_html_(self):
        if not self._is_whole:
            return TensorNetwork._repr_html_(self)
        return chain_html(repr(self), self.bond_dims, self.phys_dims)

    def inner(self, other: "MPS") -> Array:
        """Return the inner product of every sample with that of ``other``; ``self`` is conjugated.

        Parameters
        ----------
        other : MPS
            Same sites; batch equal or 1.

        Returns
        -------
        array (batch,)
            May overflow for very long chains; :meth:`log_norm` does not.
        """
        if not isinstance(other, MPS):
            raise TypeError(f"other is a {type(other).__name__}, expected an MPS")
        check_alike((self.cores[0], other.cores[0]), "the two states")
        if other.phys_dims != self.phys_dims:
            raise ValueError(f"other has phys_dims {other.phys_dims}, expected {self.phys_dims}")
        if other.batch_size != self.batch_size and 1 not in (other.batch_size, self.batch_size):
            raise ValueError(
                f"other has {other.batch_size} samples, expected {self.batch_size}, or one for all"
            )
        value, log_scale = overlap(self.cores, other.cores)
        return value * as_dtype_of(do("exp", log_scale), value)

    def norm(self) -> Array:
        """Return the Euclidean norm of every vector, array ``(batch,)``."""
        cores = self.cores  # looking them up in the network takes as long as a few sites
        size = do("abs", cores[0][:1, 0, 0, 0])
        return as_dtype_of(do("exp", _log_norm(cores)), size)

    def log_norm(self) -> Array:
        """Return the natural logarithm of every norm, array ``(batch,)``, in double precision."""
        return _log_norm(self.cores)


def _log_norm(cores: tuple[Array, ...]) -> Array:
    value, log_scale = overlap(cores, cores)
    value = do("real", value) if is_complex(value) else value
    with np.errstate(divide="ignore"):
        return 0.5 * (log(value) + log_scale)
