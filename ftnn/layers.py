"""Layers that map states to states: Linear, Residual, Sequential."""

from collections.abc import Callable, Sequence
from typing import Any

from .backend import Array, recomputed, recomputing
from .bonds import MaxBond, check_bonds, largest_bond
from .chain import Apply, Cores, State, Term
from .initialization import initial_bias, initial_weight, sketch_of_layer
from .layer import Layer, collect, named
from .readouts import Head
from .states import check_both_dims
from .truncation.methods import METHODS
from .truncation.src import compress_src


class Linear(Layer):
    r"""``y = W x + b``: MPO times MPS plus MPS, truncated by a sketch the layer owns.

    Parameters
    ----------
    in_dims, out_dims : sequence of int
        Physical dimensions of the input and of the output; as many sites.
    bond_dim : int or sequence of int
        Bond dimension D of the weight, at every cut or at each of the L - 1.
    max_bond : int or sequence of int
        Bond dimension of the output, likewise.
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
    truncates = True

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
        super().__init__(in_dims, out_dims)
        self.bond_dim, self.max_bond, self.bias = bond_dim, max_bond, bias
        self.method, self.seed = method, seed
        self.params |= named("weight", initial_weight(in_dims, out_dims, bond_dim, seed))
        if bias:
            self.params |= named("bias", initial_bias(out_dims, seed))
        self.buffers |= named("omega", sketch_of_layer(out_dims, largest_bond(max_bond), seed))

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


class Residual(Layer):
    """``y = x + layer(x)``, truncated by a sketch the layer owns.

    Parameters
    ----------
    layer : Layer
        Returns the physical dimensions it takes.
    max_bond : int or sequence of int
        Bond dimension of the output.
    seed : int
        Seed of the test matrices.
    """

    truncates = True

    def __init__(self, layer: Layer, max_bond: MaxBond, seed: int = 0):
        if layer.in_dims is None:
            raise ValueError("layer has no in_dims of its own; wrap a Linear or a Sequential")
        if layer.in_dims != layer.out_dims:
            raise ValueError(
                f"layer maps {layer.in_dims} to {layer.out_dims}; a residual needs the same dims"
            )
        max_bond = check_bonds(max_bond, len(layer.in_dims))
        super().__init__(layer.in_dims, layer.in_dims)
        self.max_bond, self.seed = max_bond, seed
        self.children["layer"] = layer
        self.buffers |= named("omega", sketch_of_layer(layer.in_dims, largest_bond(max_bond), seed))

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

    Attributes
    ----------
    recompute : bool
        On torch, keep little for the backward pass and compute the rest again there: of a
        truncation its environments and its result, of other layers what they take. Less than
        half of the memory, a quarter more time. False at first.
    """

    truncates = True

    def __init__(self, *layers: Layer):
        if not layers:
            raise ValueError("layers is empty; give at least one layer")
        for n, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"layers[{n}] is a {type(layer).__name__}, expected a Layer")
            if isinstance(layer, Head) and n < len(layers) - 1:
                name = type(layer).__name__
                raise ValueError(f"layers[{n}] is a {name}; it may only come last")
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
        self.recompute = False

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, in order."""
        return tuple(self.children.values())

    def apply(self, cores: Cores) -> Any:
        """Map cores through every layer; no network object is built in between."""
        if not self.recompute:
            for layer in self.layers:
                cores = layer.apply(cores)
            return cores
        with recomputing():
            for layer in self.layers:
                again = None if layer.truncates else _repeatable(layer)
                cores = recomputed(again, cores) if again else layer.apply(cores)
        return cores

    def config(self) -> dict[str, Any]:
        """No argument of its own; the layers describe themselves."""
        return {}


def _repeatable(layer: Layer) -> Callable[[Cores], Any]:
    """Return ``layer.apply`` such that calls are alike, and running statistics move once."""
    stores = [part.buffers for _, part in layer.walk()]
    first = [dict(store) for store in stores]
    calls = 0

    def apply(cores: Cores) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            return layer.apply(cores)
        now = [dict(store) for store in stores]
        _put_back(stores, first)
        try:
            return layer.apply(cores)
        finally:
            _put_back(stores, now)

    return apply


def _put_back(stores: list[dict[str, Array]], contents: list[dict[str, Array]]) -> None:
    for store, content in zip(stores, contents, strict=True):
        store.update(content)
