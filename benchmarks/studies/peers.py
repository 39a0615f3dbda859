"""Other ways to compress a whole network: known decompositions, one ratio for all layers.

Decompositions in matrices, tensor trains, Tucker and CP are those of their papers, computed with
the modules of this library, so that all can be healed alike; those of tltorch are its own.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ftnn.tensorized import Conv2d, Linear
from ftnn.tensorized.candidates import graph_of, weight_of
from ftnn.tensorized.decompose import Decomposition, affordable, fitted_at, profiles
from ftnn.tensorized.formats import CONV
from ftnn.tensorized.graph import Graph
from ftnn.tensorized.linear import linear_graph
from ftnn.tensorized.places import Place, call, find_places, observe, put
from ftnn.tensorized.rows import rows_of
from ftnn.tensorized.target import Target, target_of

SWEEPS = 25
"""Most sweeps of alternating least squares for Tucker and CP; the others need none."""

LEAST, BISECTIONS = 1e-5, 16
"""The fraction of a weight is found between this and one, in so many steps."""

SMALL = 0.1
"""The fraction of a budget up to which a classifier stays dense without a trial."""


def two_convolutions(
    outs: Sequence[int], ins: Sequence[int], kernel: Sequence[int], groups: int = 1
) -> Graph:
    """Return the kernel as two: of all inputs and the whole window, then of single pixels."""
    return linear_graph("svd", ((prod(outs) * groups,), (prod([*ins, *kernel]),)), 1, 1)


class UnfoldedConv2d(Conv2d):
    """A convolution whose kernel is two matrices, as an unfolded matrix (outputs, patch)."""

    kinds = ("dense",)

    @classmethod
    def from_cores(
        cls, layer: Any, format: str, found: Decomposition, mean: Tensor | None = None
    ) -> "UnfoldedConv2d":
        """Make a layer of two matrices; a mean patch corrects the bias."""
        settings = (layer.stride, layer.padding, layer.dilation, layer.groups)
        with torch.device("meta"):
            new = cls(
                layer.in_channels, layer.out_channels, layer.kernel_size, *settings,
                layer.bias is not None, layer.padding_mode, format, None, 1,
            )  # fmt: skip
        return new.take(found, layer.weight.detach().flatten(1), layer.bias, mean).like(layer)


class Shrinkable(Protocol):
    """A layer, in a method: how large it can be, and what it becomes."""

    dense: int

    def size(self, params: float) -> int:
        """Return the largest size of at most so many parameters, or the least there is."""

    def made(self, params: float) -> nn.Module:
        """Return the layer of this size."""


@dataclass(frozen=True)
class Method:
    """Formats of layers, and the metric of their fit.

    Attributes
    ----------
    linear, conv : str
        Format.
    metric : {"none", "size", "second"}
        Frobenius; a diagonal of mean absolute inputs; second moments of the inputs.
    """

    linear: str
    conv: str
    metric: str = "none"


METHODS: dict[str, Method] = {
    "SVD": Method("svd", "unfolded"),
    "ASVD": Method("svd", "unfolded", "size"),
    "whitened SVD": Method("svd", "unfolded", "second"),
    "TT-SVD": Method("mpo", "tt"),
    "Tucker": Method("svd", "tucker"),
    "CP": Method("svd", "cp"),
}


class _Ours:
    """A layer in a format of this library."""

    def __init__(self, place: Place, method: Method, sizes: Tensor):
        self.layer = place.layer
        self.dense = place.weight.numel()
        conv = isinstance(self.layer, nn.Conv2d)
        self.format = method.conv if conv else method.linear
        weight = weight_of(self.layer)
        graph = graph_of(self.layer, self.format)
        moments = {"none": None, "size": sizes}.get(method.metric)
        if method.metric == "second":
            assert place.moments is not None
            moments = place.moments.second()
        self.target: Target = target_of(weight, graph, moments)

    def _params(self, params: float) -> int:
        """Return at least the number of entries at rank 1."""
        graph = self.target.graph
        return max(int(params), graph.with_ranks(dict.fromkeys(graph.bonds, 1)).num_params)

    def size(self, params: float) -> int:
        """Return the number of entries of the largest cores that are allowed."""
        return affordable(self.target, self._params(params)).num_params

    def made(self, params: float) -> nn.Module:
        """Return the tensorized layer; ranks are chosen as for the layers of this library."""
        sweeps = SWEEPS if self.format in ("tucker", "cp") else 0
        graphs = profiles(self.target, self.size(params))
        fits = [fitted_at(self.target, graph, sweeps) for graph in graphs]
        kind: Any = Linear
        if isinstance(self.layer, nn.Conv2d):
            kind = UnfoldedConv2d if self.format == "unfolded" else Conv2d
        best = min(fits, key=lambda found: found.error)
        return kind.from_cores(self.layer, self.format, best)


class _Tltorch:
    """A layer of tltorch: a tensor train of matrices, or a Tucker kernel, by its own functions."""

    def __init__(self, layer: Any):
        self.layer, self.dense = layer, layer.weight.numel()

    def _new(self, share: float) -> nn.Module:
        from tltorch import FactorizedConv, FactorizedLinear

        if isinstance(self.layer, nn.Conv2d):
            return FactorizedConv.from_conv(
                self.layer, rank=share, factorization="tucker", implementation="reconstructed"
            )
        return FactorizedLinear.from_linear(
            self.layer, rank=share, factorization="blocktt", implementation="reconstructed"
        )

    def size(self, params: float) -> int:
        """Return the number of entries at a share that it takes for a fraction."""
        from tensorly.tt_tensor import validate_tt_rank
        from tensorly.tucker_tensor import validate_tucker_rank
        from tltorch.utils import get_tensorized_shape

        share = max(min(params / self.dense, 1.0), 1e-6)
        if isinstance(self.layer, nn.Conv2d):
            shape = tuple(self.layer.weight.shape)
            ranks = validate_tucker_rank(shape, share)
            return prod(ranks) + sum(n * r for n, r in zip(shape, ranks, strict=True))
        ins, outs = get_tensorized_shape(
            self.layer.in_features, self.layer.out_features, order=3, verbose=False
        )
        sites = [a * b for a, b in zip(outs, ins, strict=True)]
        ranks = validate_tt_rank(sites, share)
        return sum(a * n * b for a, n, b in zip(ranks, sites, ranks[1:], strict=False))

    def made(self, params: float) -> nn.Module:
        """Return its layer."""
        return self._new(max(min(params / self.dense, 1.0), 1e-6))


def peers(model: nn.Module, batches: Sequence[Any]) -> dict[str, Callable[[], list[Shrinkable]]]:
    """Return all methods there are for a network, ready to be asked for its layers.

    The unfolded kernel becomes a format of convolutions.

    Parameters
    ----------
    model : Module
        Dense.
    batches : sequence
        Of training data, for the methods that look at inputs.
    """
    CONV["unfolded"] = two_convolutions
    places = find_places(model)
    observe(model, places, batches, call)
    sizes = _mean_sizes(model, places, batches[0])
    found: dict[str, Callable[[], list[Shrinkable]]] = {}
    convolutions = any(isinstance(place.layer, nn.Conv2d) for place in places)
    for name, method in METHODS.items():
        if convolutions or name not in ("Tucker", "CP"):
            found[name] = lambda method=method: [  # type: ignore[misc]
                _Ours(place, method, size) for place, size in zip(places, sizes, strict=True)
            ]
    try:
        import tltorch  # noqa: F401
    except ImportError:
        return found
    found["tltorch"] = lambda: [_Tltorch(place.layer) for place in places]
    return found


def _mean_sizes(model: nn.Module, places: Sequence[Place], batch: Any) -> list[Tensor]:
    """Return the mean absolute inputs of layers: features, or patches."""
    found: dict[int, Tensor] = {}

    def note(layer: nn.Module, given: tuple) -> None:
        found[id(layer)] = rows_of(layer, given[0]).abs().double().mean(0)

    hooks = [place.layer.register_forward_pre_hook(note) for place in places]
    try:
        with torch.no_grad():
            call(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    return [found[id(place.layer)] for place in places]


def even(layers: Sequence[Shrinkable], params: int) -> list[int | None]:
    """Spread a budget over layers, the same fraction of every weight; None for a dense layer.

    A layer that is smaller when dense stays so, and one that cannot have so few parameters has the
    least it can; the fraction is the largest with which the budget is kept.

    Raises
    ------
    ValueError
        If the budget cannot be met.
    """

    def sizes(share: float) -> list[int]:
        return [min(layer.size(share * layer.dense), layer.dense) for layer in layers]

    least = sum(sizes(LEAST))
    if least > params:
        raise ValueError(f"params is {params}, but the smallest layers have {least}")
    low, high = LEAST, 1.0
    for _ in range(BISECTIONS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if sum(sizes(middle)) <= params else (low, middle)
    return [
        None if layer.size(low * layer.dense) >= layer.dense else int(low * layer.dense)
        for layer in layers
    ]


def compressed(model: nn.Module, layers: Sequence[Shrinkable], params: int) -> list[nn.Module]:
    """Return the network with its layers shrunk by one ratio, within a budget of the whole.

    The last layer, a classifier, stays dense if the budget allows for it, as is usual. If it would
    be more than `SMALL` of the budget, there is another network in which it shrinks, too, first:
    which of them is better can be told only after healing.

    Parameters
    ----------
    model : Module
        Dense.
    layers : sequence of Shrinkable
        Its layers, in order.
    params : int
        Budget of the whole network.

    Raises
    ------
    ValueError
        If the budget cannot be met.
    """
    free = params - sum(p.numel() for p in model.parameters())
    free += sum(layer.dense for layer in layers)
    spread = [even(layers, free)]
    last = layers[-1].dense
    if spread[0][-1] is not None:
        with suppress(ValueError):
            spread.append([*even(layers[:-1], free - last), None])
            spread = spread if last > SMALL * params else spread[1:]
    found = []
    for budgets in spread:
        new = copy.deepcopy(model)
        for place, layer, budget in zip(find_places(new), layers, budgets, strict=True):
            if budget is not None:
                put(new, place.names, layer.made(budget))
        found.append(new)
    return found
