"""Linear: MPO times MPS plus MPS, truncated."""

from collections.abc import Sequence

import numpy as np

from ..arrays.backend import to_numpy
from ..arrays.functions import dims_product
from ..chains.bonds import MaxBond, check_bonds
from ..chains.dims import check_both_dims
from ..chains.terms import Apply, Cores, State, Term
from ..truncation.methods import METHODS
from ..truncation.src import compress_src
from .initialization import (
    bias_shapes,
    initial_bias,
    initial_weight,
    sketch_of_layer,
    sketch_shapes,
    weight_shapes,
)
from .layer import Layer, collect, scale_evenly, site_entries


class Linear(Layer):
    r"""``y = W x + b``: MPO times MPS plus MPS, truncated by the layer's own sketch.

    Parameters
    ----------
    in_dims, out_dims : sequence of int
        Physical dimensions of input and output; equally many sites.
    bond_dim : int or sequence of int
        Bond dimension D of the weight, at every cut or at each of the L - 1.
    max_bond : int or sequence of int
        Bond dimension of the output, likewise.
    bias : bool
        Whether to add a product-state bias, which starts at zero.
    method : {"src", "src-oversample", "direct", "dm", "zipup", "fit", "sdc"}
        Truncation method; see :func:`ftnn.compress`. After any method but "src" the result is
        brought to the gauge of the layer's sketch, without further loss.
    seed : int
        Seed of the weight and of the test matrices.

    Notes
    -----
    *The gauge.* The layer stores its test matrices as buffers. With a fixed sketch the output
    cores are a function of the output tensor alone (see :mod:`ftnn.truncation.src`), so a
    subsequent nonlinearity on cores is well defined. The first row of every test matrix is
    the constant channel: with features ``(1, phi)`` its sign does not change.

    *Initialization.* A chain of generic random cores is useless when it is long: its overlap
    with a generic vector decays exponentially in L. The weight starts as

    .. math:: W_k[l, o, i, r] = \delta_{lr}\, A_k[o, i] + \eta\, N_k[l, o, i, r],

    the identity on the bond, with :math:`A_k` semi-orthogonal and keeping channel 0, plus
    Gaussian noise whose weight :math:`\eta = \min(1, 2/L)` sums to a constant over the chain; the
    whole is scaled, in log scale and evenly over the cores, to :math:`\|W\|_F^2 = \prod_k o_k`,
    which keeps the mean square entry of an isotropic input.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((6, 64)), (4, 4, 4))
    >>> layer = ftnn.Linear((4, 4, 4), (5, 5, 5), bond_dim=3, max_bond=8, seed=0)
    >>> y = layer(x)
    >>> y.phys_dims, y.bond_dims
    ((5, 5, 5), (5, 5))
    """

    in_dims: tuple[int, ...]
    out_dims: tuple[int, ...]
    recomputes_itself = True

    def __init__(
        self,
        in_dims: Sequence[int],
        out_dims: Sequence[int],
        bond_dim: MaxBond,
        max_bond: MaxBond,
        bias: bool = True,
        method: str = "src",
        seed: int = 0,
    ):
        in_dims, out_dims = check_both_dims(in_dims, out_dims)
        bond_dim = check_bonds(bond_dim, len(out_dims), "bond_dim")
        max_bond = check_bonds(max_bond, len(out_dims))
        if method not in METHODS:
            raise ValueError(f"method is {method!r}; choose one of {', '.join(METHODS)}")
        if not isinstance(bias, bool):
            raise TypeError(f"bias is {bias!r}, expected True or False")
        super().__init__(in_dims, out_dims)
        self.bond_dim, self.max_bond, self.bias = bond_dim, max_bond, bias
        self.method, self.seed = method, seed
        self.declare(
            site_entries("weight", weight_shapes(in_dims, out_dims, bond_dim))
            | (site_entries("bias", bias_shapes(out_dims)) if bias else {})
            | site_entries("omega", sketch_shapes(out_dims, max_bond)),
            "bond_dim or max_bond",
        )
        self.params |= site_entries("weight", initial_weight(in_dims, out_dims, bond_dim, seed))
        if bias:
            self.params |= site_entries("bias", initial_bias(out_dims, seed))
        self.buffers |= site_entries("omega", sketch_of_layer(out_dims, seed, max_bond))

    def operators(self) -> dict[str, Cores]:
        """Return the weight."""
        return {"weight": collect(self.params, "weight")}

    def terms(self, cores: Cores) -> tuple[Term, ...]:
        """Return the exact output as a lazy chain, before truncation."""
        product = Term(Apply(self.operators()["weight"], State(cores)))
        if not self.bias:
            return (product,)
        return (product, Term(State(collect(self.params, "bias"))))

    def apply(self, cores: Cores) -> Cores:
        """Map cores ``(batch, left, in, right)`` to ``(batch, left, out, right)``."""
        omegas, terms = collect(self.buffers, "omega"), self.terms(cores)
        if self.method != "src":
            result, _ = METHODS[self.method](terms, self.max_bond, 0.0, self.seed)
            terms = (Term(State(result)),)
        return compress_src(terms, omegas, self.max_bond)

    def rescale(self, log_factor: float) -> None:
        """Multiply weight and bias by ``exp(log_factor)``; a zero bias stays zero."""
        scale_evenly(self.params, "weight", log_factor)
        if self.bias and np.any(to_numpy(collect(self.params, "bias")[-1])):
            scale_evenly(self.params, "bias", log_factor)

    def dense_params(self) -> int:
        """Count the entries of the dense matrix and of the bias."""
        matrix = dims_product(self.out_dims) * dims_product(self.in_dims)
        return matrix + self.bias * dims_product(self.out_dims)
