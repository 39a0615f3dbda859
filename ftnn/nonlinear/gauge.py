"""Gauges for nonlinearities on cores: layers that change the cores but not the vector."""

from collections.abc import Sequence

from autoray import do

from ..arrays.backend import Array, as_dtype_of
from ..arrays.functions import abs2, adjoint, matrix_transpose, sum_over
from ..arrays.scales import spread
from ..arrays.svd import leading, left_singular
from ..chains.bonds import MaxBond, check_bonds
from ..chains.canonical import canonical_cores
from ..chains.dims import check_dims
from ..chains.terms import Cores, State, Term
from ..layers.initialization import sketch_of_layer, sketch_shapes
from ..layers.layer import Layer, collect, site_entries
from ..truncation.src import compress_src


class SketchGauge(Layer):
    """Change of gauge to the sketch gauge of the layer's own test matrices.

    The vector stays the same up to truncation to ``max_bond``. :class:`ftnn.Linear` and
    :class:`ftnn.Residual` return such a gauge; this layer is for cores from elsewhere, such as an
    encoder.

    Parameters
    ----------
    phys_dims : sequence of int
    max_bond : int or sequence of int
    seed : int
        Seed of the test matrices.
    """

    recomputes_itself = True

    def __init__(self, phys_dims: Sequence[int], max_bond: MaxBond, seed: int = 0):
        dims = check_dims(phys_dims, "phys_dims")
        max_bond = check_bonds(max_bond, len(dims))
        super().__init__(dims, dims)
        self.phys_dims, self.max_bond, self.seed = dims, max_bond, seed
        self.declare(site_entries("omega", sketch_shapes(dims, max_bond)), "max_bond")
        self.buffers |= site_entries("omega", sketch_of_layer(dims, seed, max_bond))

    def terms(self, cores: Cores) -> tuple[Term, ...]:
        """Return the input: the exact output is the same vector."""
        return (Term(State(cores)),)

    def apply(self, cores: Cores) -> Cores:
        """Map cores ``(batch, left, phys, right)`` to cores of bond at most ``max_bond``."""
        return compress_src(self.terms(cores), collect(self.buffers, "omega"), self.max_bond)


class SVDGauge(Layer):
    r"""Change of gauge to the balanced gauge of the singular value decomposition.

    With :math:`\Lambda_k` the singular values of the vector at cut k, which are gauge invariant,
    and :math:`B_k` the cores of the right-canonical form in singular vectors,

    .. math:: C_k = \Lambda_k^{1/2} B_k \Lambda_{k+1}^{-1/2} ,

    Vidal's :math:`\Lambda^{1/2}\Gamma\Lambda^{1/2}`: both neighbours of a bond carry it equally.
    The scale of the vector is spread evenly over the cores. Directions that are null to rounding
    are zero.

    Notes
    -----
    The gauge is unique up to signs, which are fixed by the largest entry of every singular vector,
    only where the singular values of a cut are distinct. Where two of them cross it jumps, and
    its gradient grows as the inverse of their distance; docs/nonlinearity.md shows the consequences
    for training.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((3, 8)), (2, 2, 2))
    >>> y = ftnn.nonlinear.SVDGauge()(x)
    >>> bool(np.allclose(y.to_dense(), x.to_dense())), y.bond_dims
    (True, (2, 2))
    """

    def __init__(self) -> None:
        super().__init__()

    def terms(self, cores: Cores) -> tuple[Term, ...]:
        """Return the input: the exact output is the same vector."""
        return (Term(State(cores)),)

    def apply(self, cores: Cores) -> Cores:
        """Map cores ``(batch, left, phys, right)`` to cores whose bonds are no larger."""
        rest, log_scale = canonical_cores(cores, len(cores) - 1)
        out, batch = list(rest), rest[0].shape[0]
        after = None  # inverse square roots of the singular values right of the core, (batch, r)
        for k in range(len(out) - 1, 0, -1):
            _, left, phys, right = out[k].shape
            flat = do("reshape", out[k], (batch, left, phys * right))
            u, s = left_singular(matrix_transpose(flat))  # (batch, phys*right, p)
            q = matrix_transpose(leading(u, s, s.shape[1]))  # right singular vectors, (batch, p, n)
            weighted = flat @ adjoint(q)  # U Lambda, (batch, left, p)
            root, inverse = _roots(weighted)
            core = do("reshape", q, (batch, -1, phys, right)) * root[:, :, None, None]
            out[k] = core if after is None else core * after[:, None, None, :]
            before = do("reshape", out[k - 1], (batch, -1, left)) @ weighted
            out[k - 1] = do("reshape", before, (batch, *out[k - 1].shape[1:3], -1))
            after = inverse
        if after is not None:
            out[0] = out[0] * after[:, None, None, :]
        return spread(out, log_scale)


def _roots(weighted: Array) -> tuple[Array, Array]:
    """Return square roots of column norms and their inverses, both zero for zero columns."""
    square = sum_over(abs2(weighted), (1,))  # (batch, p)
    live = square > 0
    root = do("sqrt", do("sqrt", do("where", live, square, do("ones_like", square))))
    none = do("zeros_like", square)
    return (
        as_dtype_of(do("where", live, root, none), weighted),
        as_dtype_of(do("where", live, 1.0 / root, none), weighted),
    )
