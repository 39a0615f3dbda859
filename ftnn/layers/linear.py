"""Linear: MPO times MPS plus MPS, truncated."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays.backend import Array, to_numpy
from ..arrays.functions import dims_product
from ..chains.bonds import MaxBond, check_bonds, cut_bonds
from ..chains.dims import check_both_dims
from ..chains.operators import MPO
from ..chains.states import MPS
from ..chains.terms import Apply, Cores, State, Term
from ..truncation.methods import METHODS
from ..truncation.src import compress_src
from .dense import (
    DenseError,
    check_product,
    common_bond,
    corrected_bias,
    covariance,
    dense_arrays,
    operator_of,
    output_error,
    relative,
    state_of,
)
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
        Whether to add a bias, which starts at zero.
    method : {"src", "src-oversample", "direct", "dm", "zipup", "fit", "sdc"}
        Truncation method; see :func:`ftnn.compress`. After any method but "src" the result is
        brought to the gauge of the layer's sketch, without further loss.
    seed : int
        Seed of the weight and of the test matrices.
    bias_bond : int or sequence of int
        Bond dimension of the bias, likewise; by default it is a product state.

    Attributes
    ----------
    dense_error : DenseError or None
        After :meth:`from_dense`, relative errors of weight and bias; not saved.

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
    dense_error: DenseError | None = None

    def __init__(
        self,
        in_dims: Sequence[int],
        out_dims: Sequence[int],
        bond_dim: MaxBond,
        max_bond: MaxBond,
        bias: bool = True,
        method: str = "src",
        seed: int = 0,
        bias_bond: MaxBond = 1,
    ):
        in_dims, out_dims = check_both_dims(in_dims, out_dims)
        bond_dim = check_bonds(bond_dim, len(out_dims), "bond_dim")
        max_bond = check_bonds(max_bond, len(out_dims))
        bias_bond = check_bonds(bias_bond, len(out_dims), "bias_bond")
        if method not in METHODS:
            raise ValueError(f"method is {method!r}; choose one of {', '.join(METHODS)}")
        if not isinstance(bias, bool):
            raise TypeError(f"bias is {bias!r}, expected True or False")
        super().__init__(in_dims, out_dims)
        self.bond_dim, self.max_bond, self.bias = bond_dim, max_bond, bias
        self.method, self.seed, self.bias_bond = method, seed, bias_bond
        self.declare(
            site_entries("weight", weight_shapes(in_dims, out_dims, bond_dim))
            | (site_entries("bias", bias_shapes(out_dims, bias_bond)) if bias else {})
            | site_entries("omega", sketch_shapes(out_dims, max_bond)),
            "bond_dim or max_bond",
        )
        self.params |= site_entries("weight", initial_weight(in_dims, out_dims, bond_dim, seed))
        if bias:
            self.params |= site_entries("bias", initial_bias(out_dims, seed, bias_bond))
        self.buffers |= site_entries("omega", sketch_of_layer(out_dims, seed, max_bond))

    @classmethod
    def from_dense(
        cls,
        linear: Any,
        in_dims: Sequence[int],
        out_dims: Sequence[int],
        bond_dim: MaxBond | None,
        max_bond: MaxBond | None,
        moments: Array | None = None,
        mean: Array | None = None,
        method: str = "src",
        seed: int = 0,
        bias: Array | None = None,
        bias_bond: MaxBond | None = None,
    ) -> "Linear":
        r"""Start a layer on states from a trained dense one.

        Parameters
        ----------
        linear : torch.nn.Linear, Conv1D of transformers, or array (out, in)
        in_dims, out_dims : sequence of int
            Their products are the numbers of inputs and outputs.
        bond_dim : int or sequence of int, optional
            Of the weight; None for an exact one.
        max_bond : int or sequence of int, optional
            Of the output; None for the largest there is, with which nothing is truncated.
        moments : array (in, in) or (in,), optional
            Second moments of the inputs, or their diagonal (see
            :class:`ftnn.tensorized.Moments`): the weight is then fitted in their metric, so that
            the error is that of the outputs. By default the Frobenius norm. Needs torch.
        mean : array (in,), optional
            Mean of the inputs: the bias makes up for the error of the mean output, and the weight
            is fitted to what varies. Ignored if the dense layer has no bias.
        method, seed
            As of the class.
        bias : array (out,), optional
            Of an array; a layer has its own.
        bias_bond : int or sequence of int, optional
            Of the bias; by default it is exact.

        Returns
        -------
        Linear
            On NumPy, in double precision. Bonds are smaller than asked for where larger ones gain
            nothing. Its ``dense_error`` tells the errors of weight and bias.

        Raises
        ------
        TypeError, ValueError
            If ``linear`` is none of these, is complex or not finite, or dims, bonds or moments do
            not fit.

        Examples
        --------
        >>> import numpy as np, ftnn
        >>> rng = np.random.default_rng(0)
        >>> W, b = rng.standard_normal((24, 16)), rng.standard_normal(24)
        >>> layer = ftnn.Linear.from_dense(W, (4, 4), (6, 4), None, None, bias=b)
        >>> x = rng.standard_normal((5, 16))
        >>> y = layer(ftnn.MPS.from_dense(x, (4, 4))).to_dense()
        >>> bool(np.allclose(y, x @ W.T + b)), layer.bias_bond
        (True, 4)
        >>> layer = ftnn.Linear.from_dense(W, (4, 4), (6, 4), bond_dim=8, max_bond=4, bias=b)
        >>> print(f"{layer.dense_error.weight:.2f}", layer.num_params())
        0.41 360
        """
        weight, vector = dense_arrays(linear, bias)
        in_dims, out_dims = check_both_dims(in_dims, out_dims)
        check_product(in_dims, weight.shape[1], "in_dims", "inputs")
        check_product(out_dims, weight.shape[0], "out_dims", "outputs")
        if bias_bond is not None:
            bias_bond = check_bonds(bias_bond, len(out_dims), "bias_bond")
        if vector is None:
            mean = None
        metric = covariance(moments, mean)
        cores = operator_of(weight, out_dims, in_dims, bond_dim, metric)
        bond = common_bond(
            MPO(cores).bond_dims, [o * i for o, i in zip(out_dims, in_dims, strict=True)]
        )
        found = MPO(cores).to_dense()
        shift: Cores = ()
        own_bond: MaxBond = 1
        bias_error = 0.0
        if vector is not None:
            vector = corrected_bias(vector, weight - found, mean)
            if vector.any():  # a zero one stays as the constructor makes it, which can be trained
                shift = state_of(vector, out_dims, bias_bond)
                own_bond = common_bond(MPS(shift).bond_dims, out_dims)
                bias_error = relative(MPS(shift).to_dense()[0], vector)
        if max_bond is None:
            max_bond = max(cut_bonds(out_dims, None))
        layer = cls(in_dims, out_dims, bond, max_bond, vector is not None, method, seed, own_bond)
        layer.params |= site_entries("weight", cores) | site_entries("bias", shift)
        layer.dense_error = DenseError(
            relative(found, weight), bias_error, output_error(found, weight, metric)
        )
        return layer

    def to_dense(self) -> tuple[Array, Array | None]:
        """Return the dense weight (out, in) and bias (out,), None without one."""
        weight = MPO(self.operators()["weight"]).to_dense()
        return weight, MPS(collect(self.params, "bias")).to_dense()[0] if self.bias else None

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
