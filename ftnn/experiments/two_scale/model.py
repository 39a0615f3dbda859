r"""Gated layers that each double the order of 1/a, between a lift and an integral.

With r = 1 - a, the product :math:`P_k = (1 + r)(1 + r^2) \cdots (1 + r^{2^{k-1}})` has

.. math:: a P_k = (1 - r)(1 + r)(1 + r^2) \cdots = 1 - r^{2^k},

so that P_k tends to 1/a, with :math:`2^k` terms of the Neumann series after k steps. Let
:math:`b_k = a P_k` be carried along instead of the power. The next factor is
:math:`1 + r^{2^k} = 2 - b_k`, and both are multiplied by it:

.. math:: (P_{k+1}, b_{k+1}) = (2 - b_k) \circ (P_k, b_k), \qquad (P_0, b_0) = (1, a) .

A state holds the pair in one vector: the first site has dimension 4, index 2 c + bit, with channel
c = 0 for P and c = 1 for b. A step is then exactly a layer
:math:`(1 + A x) \circ (B x)` with B = 2 and A = -1/2 times "channel 1 to both channels", MPOs of
bond dimension 1 which act on the first site only. A :class:`ftnn.Linear` with a bias makes the
pair, channel 1 from a and channel 0 from the constant 1, and the last one integrates
:math:`(1 - x) P`.

Trained are the diagonals of one core of A and one of B in every layer, on the second site (see
:class:`ftnn.experiments.two_scale.training.Factors`). What training can gain: multiplied by
:math:`\alpha_k (2 - b_k)` instead, a pair stays one of :math:`p(a)` and :math:`a\,p(a)`, and the
residual :math:`q = 1 - b` obeys :math:`q_{k+1} = 1 - \alpha_k + \alpha_k q_k^2`. With
:math:`b_0 = a` and |r| <= σ, :math:`q_k = T_{2^k}(r/σ)/T_{2^k}(1/σ)` obeys it for
:math:`\alpha_k = 1 + 1/T_{2^{k+1}}(1/σ)`, as :math:`T_{2m} = 2 T_m^2 - 1`: the polynomial of its
degree with the smallest residual on the interval, falling as :math:`0.56^{2^k}` rather than
:math:`0.85^{2^k}` for σ = 0.85.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from ...chains.terms import Cores, State, Term
from ...layers.layer import Layer, collect
from ...layers.linear import Linear
from ...layers.sequential import Sequential
from ...nonlinear import Gated
from ...training.inputs import select_rows
from ...truncation.methods import METHODS
from ..splits import Data
from .integral import integral_cores
from .options import TwoScaleOptions

SPARE = 2
"""Bond dimension of the layers in excess of that of the states, at every cut."""

_RTOL = 1e-6  # of the states that determine the bonds
_SAMPLES = 32  # of them

Weights = Mapping[str, Sequence[np.ndarray]]
"""Chains of cores (left, out, in, right) by the name of the operator or bias."""


def build(options: TwoScaleOptions, data: Data) -> tuple[None, Layer]:
    """Build a lift, ``depth`` gated layers, and an integral.

    Weights start as the exact construction, with noise on those that are trained. Every cut of a
    layer gets the bond that the exact states of some training samples need, and SPARE more, at most
    ``options.max_bond``.
    """
    cores = select_rows(data.train_inputs, slice(_SAMPLES))
    sites = len(cores)
    ends, dims = (2,) * sites, (4,) + (2,) * (sites - 1)
    rng = np.random.default_rng((options.train.seed, 6))
    seed = 10 * options.train.seed
    layers: list[Layer] = []

    def add(make: Callable[[list[int]], Linear | Gated], weights: Weights) -> None:
        """Append a layer with bonds that suit its output; the samples go through it."""
        nonlocal cores
        exact = make([1] * (sites - 1))
        set_weights(exact, weights)
        cores = _compressed(exact.terms(cores), options.max_bond)
        bonds = [min(core.shape[3] + SPARE, options.max_bond) for core in cores[:-1]]
        layer = make(bonds)
        set_weights(layer, weights)
        layers.append(layer)

    add(lambda bonds: Linear(ends, dims, 1, bonds, seed=seed), lift_weights(sites))
    for n in range(1, options.depth + 1):
        inner = [min(core.shape[3] + SPARE, options.max_bond) for core in cores[:-1]]
        make = partial(Gated, dims, dims, 1, inner_bond=inner, seed=seed + n)
        add(make, doubling_weights(sites))
    last = seed + options.depth + 1
    add(lambda bonds: Linear(dims, ends, 4, bonds, bias=False, seed=last), integral_weights(sites))
    model = Sequential(*layers)
    for name, array in model.named_params().items():
        if is_trained(name):
            factors = 1.0 + options.noise * rng.standard_normal(array.shape)
            model.set_arrays({name: array * factors})  # off the diagonal they are zero
    return None, model


def is_trained(name: str) -> bool:
    """Return whether a parameter, by its dotted name, is one of those that are trained.

    Examples
    --------
    >>> [is_trained(name) for name in ("1.A.1", "5.B.1", "1.A.0", "0.weight.1", "6.weight.1")]
    [True, True, False, False, False]
    """
    return name.endswith((".A.1", ".B.1"))


def lift_weights(sites: int) -> Weights:
    """Return weight and bias of the map from a to the pair (1, a)."""
    first = np.zeros((1, 4, 2, 1))
    first[0, 2:, :, 0] = np.eye(2)
    bias = [np.ones((1, 1, 2, 1)) for _ in range(sites)]
    bias[0] = np.array([1.0, 1.0, 0.0, 0.0]).reshape(1, 1, 4, 1)
    return {"weight": [first, *_identities(sites - 1)], "bias": bias}


def doubling_weights(sites: int) -> Weights:
    """Return A and B of the step from (P, b) to (2 - b) (P, b)."""
    gate, value = np.array([[0.0, -0.5], [0.0, -0.5]]), 2.0 * np.eye(2)  # (out, in) channels
    return {
        name: [np.kron(channels, np.eye(2))[None, :, :, None], *_identities(sites - 1)]
        for name, channels in (("A", gate), ("B", value))
    }


def integral_weights(sites: int) -> Weights:
    """Return the weight of the map from (P, b) to the integral of (1 - x) P."""
    first, *rest = integral_cores(sites)
    return {"weight": [np.concatenate([first, np.zeros_like(first)], axis=2), *rest]}


def set_weights(layer: Linear | Gated, weights: Weights) -> None:
    """Replace the weights of a layer."""
    for name, cores in weights.items():
        for k, core in enumerate(cores):
            layer.params[f"{name}.{k}"] = core.copy()


def carry(trained: Layer, built: Layer) -> Layer:
    """Start from a trained model on this grid or a coarser one, of this depth or a smaller one.

    All but the integral act on every point alike: on new sites they are identities. The integral
    has other weights on every grid, and on a finer one it starts as the exact one. Gated layers
    that are new double the order, after those that are trained.
    """
    own, layers = _layers(trained), _layers(built)
    if len(own) > len(layers):
        raise ValueError(
            f"it has {len(own) - 2} gated layers, and this one {len(layers) - 2}; raise depth"
        )
    old, new = (len(some[-1].out_dims) for some in (own, layers))
    if old > new:
        raise ValueError(f"its grid has 2^{old} points, and training begins on 2^{new}")
    for layer in layers[1:-1]:
        set_weights(layer, doubling_weights(new))
    for before, layer in zip(own[:-1], layers, strict=False):
        for name in _names(before):
            cores: list[np.ndarray] = list(collect(before.params, name))
            ones = [np.ones((1, 1, 2, 1))] * (new - old)
            cores += ones if name == "bias" else _identities(new - old)
            set_weights(layer, {name: cores})
    same = {"weight": list(collect(own[-1].params, "weight"))}
    set_weights(layers[-1], same if old == new else integral_weights(new))
    return built


def _compressed(terms: tuple, max_bond: int) -> Cores:
    """Compress exact outputs: at random to cheaper ones, then to the smallest bonds."""
    cores, _ = METHODS["src"](terms, 2 * max_bond, 0.1 * _RTOL, 0)
    return METHODS["direct"]((Term(State(cores)),), max_bond, _RTOL, 0)[0]


def _identities(number: int) -> list[np.ndarray]:
    return [np.eye(2)[None, :, :, None] for _ in range(number)]


def _layers(model: Layer) -> list[Linear | Gated]:
    """Return a lift, gated layers and an integral, or raise."""
    layers = model.layers if isinstance(model, Sequential) else ()
    found = [layer for layer in layers if isinstance(layer, (Linear, Gated))]
    kinds = [type(layer) for layer in found]
    if len(found) < len(layers) or kinds != [Linear, *[Gated] * (len(kinds) - 2), Linear]:
        names = ", ".join(type(layer).__name__ for layer in layers) or type(model).__name__
        raise ValueError(f"its layers are {names}, expected a Linear, Gated ones and a Linear")
    return found


def _names(layer: Linear | Gated) -> list[str]:
    """Return the names of the chains of parameters."""
    return list(dict.fromkeys(name.split(".")[0] for name in layer.params))
