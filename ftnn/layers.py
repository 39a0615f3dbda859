"""The linear part of a network: Linear, Readout, Residual, Sequential."""

from collections.abc import Sequence
from typing import Any

from autoray import do

from .backend import Array, as_dtype_of, log, permute
from .chain import Apply, Cores, State, Term
from .initialization import initial_bias, initial_weight, sketch_of_layer
from .layer import Layer, collect, named
from .linalg import abs2, unit_scale
from .states import check_both_dims, check_dims, check_positive
from .truncation.methods import METHODS
from .truncation.src import compress_src


class Linear(Layer):
    r"""``y = W x + b``: MPO times MPS plus MPS, truncated by a sketch the layer owns.

    Parameters
    ----------
    in_dims, out_dims : sequence of int
        Physical dimensions of the input and of the output; as many sites.
    bond_dim : int
        Bond dimension D of the weight.
    max_bond : int
        Bond dimension of the output.
    bias : bool
        Add a product-state bias, which starts at zero.
    method : {"src", "src-oversample", "direct", "dm", "zipup", "fit", "sdc"}
        Truncation method; see :func:`ftnn.compress`. After any but "src" the result is brought
        to the gauge of the layer's sketch, without further loss.
    seed : int
        Seed of the weight and of the test matrices.

    Notes
    -----
    *The gauge.* The layer keeps its test matrices as buffers. With a fixed sketch the output
    cores are a function of the output tensor alone (see :mod:`ftnn.truncation.src`), so a
    nonlinearity on cores that follows is well defined. The first row of every test matrix is
    the constant channel: with features ``(1, phi)`` it keeps one sign.

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

    def __init__(
        self,
        in_dims: Sequence[int],
        out_dims: Sequence[int],
        bond_dim: int,
        max_bond: int,
        bias: bool = True,
        method: str = "src",
        seed: int = 0,
    ):
        in_dims, out_dims = check_both_dims(in_dims, out_dims)
        check_positive(bond_dim, "bond_dim")
        check_positive(max_bond, "max_bond")
        if method not in METHODS:
            raise ValueError(f"method is {method!r}; choose one of {', '.join(METHODS)}")
        super().__init__(in_dims, out_dims)
        self.bond_dim, self.max_bond, self.bias = bond_dim, max_bond, bias
        self.method, self.seed = method, seed
        self.params |= named("weight", initial_weight(in_dims, out_dims, bond_dim, seed))
        if bias:
            self.params |= named("bias", initial_bias(out_dims, seed))
        self.buffers |= named("omega", sketch_of_layer(out_dims, max_bond, seed))

    def terms(self, cores: Cores) -> tuple[Term, ...]:
        """Return the exact output as a lazy chain, before truncation."""
        product = Term(Apply(collect(self.params, "weight"), State(cores)))
        if not self.bias:
            return (product,)
        return (product, Term(State(collect(self.params, "bias"))))

    def apply(self, cores: Cores) -> Cores:
        """Map cores ``(batch, left, in, right)`` to ``(batch, left, out, right)``."""
        omegas, terms = collect(self.buffers, "omega"), self.terms(cores)
        if self.method != "src":
            found, _ = METHODS[self.method](terms, self.max_bond, 0.0, self.seed)
            terms = (Term(State(found)),)
        return compress_src(terms, omegas, self.max_bond)

    def config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            "in_dims": list(self.in_dims),
            "out_dims": list(self.out_dims),
            "bond_dim": self.bond_dim,
            "max_bond": self.max_bond,
            "bias": self.bias,
            "method": self.method,
            "seed": self.seed,
        }


class Readout(Layer):
    """Dense outputs: overlaps of the state with an MPS that carries the output index.

    Parameters
    ----------
    in_dims : sequence of int
    num_outputs : int
        The output index sits on the middle site.
    bond_dim : int
        Bond dimension of the readout MPS.
    seed : int

    Notes
    -----
    The output is linear in the state and is not truncated: both halves of the chain are
    contracted towards the middle site, in log scale.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((6, 64)), (4, 4, 4))
    >>> ftnn.Readout((4, 4, 4), num_outputs=10, bond_dim=5)(x).shape
    (6, 10)
    """

    in_dims: tuple[int, ...]

    def __init__(self, in_dims: Sequence[int], num_outputs: int, bond_dim: int, seed: int = 0):
        in_dims = check_dims(in_dims, "in_dims")
        check_positive(bond_dim, "bond_dim")
        check_positive(num_outputs, "num_outputs")
        super().__init__(in_dims)
        self.num_outputs, self.bond_dim, self.seed = num_outputs, bond_dim, seed
        outs = [1] * len(in_dims)
        outs[self.center] = num_outputs
        # (left, out, in, right); out is 1 but on the middle site
        cores = initial_weight(in_dims, tuple(outs), bond_dim, seed)
        self.params |= named("weight", cores)

    @property
    def center(self) -> int:
        """Site of the output index."""
        return len(self.in_dims) // 2

    def apply(self, cores: Cores) -> Array:
        """Map cores ``(batch, left, in, right)`` to outputs ``(batch, num_outputs)``."""
        out, log_scale = self.contract(cores)
        return out * as_dtype_of(do("exp", log_scale), out)[:, None]

    def contract(self, cores: Cores) -> tuple[Array, Array]:
        """Compute outputs in log scale, ``out * exp(log_scale)[:, None]``; safe for any length."""
        weights = collect(self.params, "weight")
        center, batch = self.center, cores[0].shape[0]
        left = do("ones", (batch, 1, 1), like=cores[0])  # (batch, weight bond, state bond)
        right = do("ones", (batch, 1, 1), like=cores[0])
        log_scale = do("zeros_like", log(abs2(cores[0][:, 0, 0, 0]) + 1.0))
        for k in range(center):
            w, x = weights[k][:, 0], cores[k]  # (wl, in, wr), (batch, xl, in, xr)
            new = left @ do("reshape", x, (batch, x.shape[1], -1))  # (batch, wl, in*xr)
            new = do("reshape", new, (batch, w.shape[0] * w.shape[1], x.shape[3]))
            flat = do("reshape", w, (-1, w.shape[2]))  # (wl*in, wr)
            left = permute(permute(new, 0, 2, 1) @ flat, 0, 2, 1)  # (batch, wr, xr)
            left, log_scale = _rescale(left, log_scale)
        for k in range(len(cores) - 1, center, -1):
            w, x = weights[k][:, 0], cores[k]
            new = do("reshape", x, (batch, -1, x.shape[3])) @ permute(right, 0, 2, 1)
            new = do("reshape", new, (batch, x.shape[1], -1))  # (batch, xl, in*wr)
            flat = do("reshape", w, (w.shape[0], -1))  # (wl, in*wr)
            right = permute(new @ permute(flat, 1, 0), 0, 2, 1)  # (batch, wl, xl)
            right, log_scale = _rescale(right, log_scale)
        w, x = weights[center], cores[center]
        new = left @ do("reshape", x, (batch, x.shape[1], -1))  # (batch, wl, in*xr)
        new = do("reshape", new, (batch, -1, x.shape[3])) @ permute(right, 0, 2, 1)
        flat = do("reshape", permute(w, 0, 2, 3, 1), (-1, self.num_outputs))  # (wl*in*wr, out)
        return do("reshape", new, (batch, -1)) @ flat, log_scale

    def config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            "in_dims": list(self.in_dims),
            "num_outputs": self.num_outputs,
            "bond_dim": self.bond_dim,
            "seed": self.seed,
        }


class Residual(Layer):
    """``y = x + layer(x)``, truncated by a sketch the layer owns.

    Parameters
    ----------
    layer : Layer
        Returns the physical dimensions it takes.
    max_bond : int
        Bond dimension of the output.
    seed : int
        Seed of the test matrices.
    """

    def __init__(self, layer: Layer, max_bond: int, seed: int = 0):
        check_positive(max_bond, "max_bond")
        if layer.in_dims is None:
            raise ValueError("layer has no in_dims of its own; wrap a Linear or a Sequential")
        if layer.in_dims != layer.out_dims:
            raise ValueError(
                f"layer maps {layer.in_dims} to {layer.out_dims}; a residual needs the same dims"
            )
        super().__init__(layer.in_dims, layer.in_dims)
        self.max_bond, self.seed = max_bond, seed
        self.children["layer"] = layer
        self.buffers |= named("omega", sketch_of_layer(layer.in_dims, max_bond, seed))

    def terms(self, cores: Cores) -> tuple[Term, ...]:
        """Return the exact output as a lazy chain, before truncation."""
        return (Term(State(cores)), Term(State(self.children["layer"].apply(cores))))

    def apply(self, cores: Cores) -> Cores:
        """Map cores to cores of the same physical dimensions."""
        omegas = collect(self.buffers, "omega")
        return compress_src(self.terms(cores), omegas, self.max_bond)

    def config(self) -> dict[str, Any]:
        """Arguments of the constructor; the layer inside is described by itself."""
        return {"max_bond": self.max_bond, "seed": self.seed}


class Sequential(Layer):
    """Layers one after another.

    Parameters
    ----------
    *layers : Layer
        A readout may only come last.
    """

    def __init__(self, *layers: Layer):
        if not layers:
            raise ValueError("layers is empty; give at least one layer")
        for n, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"layers[{n}] is a {type(layer).__name__}, expected a Layer")
            if isinstance(layer, Readout) and n < len(layers) - 1:
                raise ValueError(f"layers[{n}] is a Readout; it may only come last")
        dims = None
        for n, layer in enumerate(layers):
            if layer.in_dims is not None:
                if dims is not None and dims != layer.in_dims:
                    raise ValueError(
                        f"layers[{n}] takes phys_dims {layer.in_dims}, "
                        f"but the layers before return {dims}"
                    )
                dims = layer.out_dims
        first = next((layer.in_dims for layer in layers if layer.in_dims is not None), None)
        super().__init__(first, dims)
        self.children |= {str(n): layer for n, layer in enumerate(layers)}

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, in order."""
        return tuple(self.children.values())

    def apply(self, cores: Cores) -> Any:
        """Map cores through every layer; no network object is built in between."""
        for layer in self.layers:
            cores = layer.apply(cores)
        return cores

    def config(self) -> dict[str, Any]:
        """No argument of its own; the layers describe themselves."""
        return {}


def _rescale(env: Array, log_scale: Any) -> tuple[Array, Any]:
    scale = unit_scale(env, 1)
    return env / scale[:, None, None], log_scale + log(scale)
