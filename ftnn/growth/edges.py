"""Edges of a model: the states between its layers, and which must have the same dimensions."""

from ..layers.coarsen import Coarsen
from ..layers.layer import Layer
from ..layers.readouts import Head
from ..layers.residual import Residual
from ..layers.sequential import Sequential
from ..layers.signature import parameters
from ..nonlinear.elementwise import Elementwise
from ..nonlinear.functions import resolve_function
from ..nonlinear.gated import Polynomial
from ..nonlinear.kan import KAN
from ..nonlinear.normalization import CoreNorm, LayerNorm
from ..nonlinear.pointwise import Pointwise
from ..nonlinear.product_map import ProductMap

Dims = tuple[int, ...]

ON_CORES = (KAN, Pointwise, CoreNorm)
"""Layers whose output depends on the gauge of their input."""


class Edges:
    """The edges of a model, in groups of equal dimensions.

    A residual ties the states before and behind it together, a norm those before and behind that;
    :class:`ftnn.Linear` and other maps with output dimensions of their own do not.

    Attributes
    ----------
    before, behind : dict of str to int
        Group of the input and of the output of every layer by path; behind a readout there is none.
    dims : dict of int to tuple of int
        Physical dimensions of every group that has a layer with dimensions of its own.
    first : int
        Group of the input of the model.
    last : int or None
        Group of its output, None for dense ones.
    """

    def __init__(self, model: Layer):
        self._parents: list[int] = []
        self._before: dict[str, int] = {}
        self._behind: dict[str, int | None] = {}
        first = self._new()
        last = self._visit("", model, first)
        self.before = {path: self._find(edge) for path, edge in self._before.items()}
        self.behind = {
            path: self._find(edge) for path, edge in self._behind.items() if edge is not None
        }
        self.first, self.last = self._find(first), None if last is None else self._find(last)
        self.dims: dict[int, Dims] = {}
        for path, layer in model.walk():
            name = path.rstrip(".")
            if layer.in_dims is not None:
                self.dims[self.before[name]] = layer.in_dims
            if layer.out_dims is not None and name in self.behind:
                self.dims[self.behind[name]] = layer.out_dims

    def _visit(self, path: str, layer: Layer, edge: int) -> int | None:
        """Note the edges of a layer and of all inside it; return that behind it."""
        self._before[path] = edge
        behind = self._inside(path, layer, edge)
        self._behind[path] = behind
        return behind

    def _inside(self, path: str, layer: Layer, edge: int) -> int | None:
        if isinstance(layer, Sequential):
            behind: int | None = edge
            for name, child in layer.children.items():
                assert behind is not None  # a readout is the last layer
                behind = self._visit(f"{path}.{name}".lstrip("."), child, behind)
            return behind
        if isinstance(layer, Residual):
            ends = [
                self._visit(f"{path}.{name}".lstrip("."), child, edge)
                for name, child in layer.children.items()
            ]
            ends += [edge] if layer.children.get("shortcut") is None else []
            for end in ends[1:]:
                self._tie(ends[0], end)
            return ends[0]
        if layer.children:
            raise TypeError(
                f"the model has a {type(layer).__name__} at {path!r}, of whose sublayers it is not "
                "known which follows which; use Sequential and Residual"
            )
        if isinstance(layer, Head):
            return None
        names = {parameter.name for parameter in parameters(type(layer))}
        own = names & {"out_dims", "out_dim"} and not (
            isinstance(layer, ProductMap) and layer.residual
        )
        return self._new() if own else edge

    def _new(self) -> int:
        self._parents.append(len(self._parents))
        return len(self._parents) - 1

    def _find(self, edge: int) -> int:
        while self._parents[edge] != edge:
            edge = self._parents[edge]
        return edge

    def _tie(self, first: int | None, second: int | None) -> None:
        if first is not None and second is not None:
            self._parents[self._find(first)] = self._find(second)


def check_zeros(path: str, layer: Layer) -> None:
    """Raise ``ValueError`` if a layer turns entries that are zero into others."""
    value = 0.0
    if isinstance(layer, Elementwise):
        value = resolve_function(layer.fn, at_zero=True).value
    elif isinstance(layer, Polynomial):
        value = layer.coefficients[0]
    if value:
        raise ValueError(
            f"{type(layer).__name__} {path!r} maps 0 to {value:.3g}, so entries of new dimensions "
            "would not stay zero; use a function that is 0 at 0, or name other layers in where"
        )


def check_gauge(model: Layer, path: str, layer: Layer) -> None:
    """Raise ``ValueError`` if new dimensions change the gauge of a layer that one behind it needs.

    A :class:`ftnn.nonlinear.LayerNorm` without ``max_bond`` stores no test matrices.
    """
    if not isinstance(layer, LayerNorm) or layer.max_bond is not None:
        return
    leaves = [(name.rstrip("."), part) for name, part in model.walk() if not part.children]
    behind = [part for name, part in leaves[[name for name, _ in leaves].index(path) + 1 :]]
    for part in behind:
        if isinstance(part, ON_CORES):
            raise ValueError(
                f"LayerNorm {path!r} has no max_bond and draws its gauge for its dimensions, but a "
                f"{type(part).__name__} behind it acts on cores; give it a max_bond"
            )
        if getattr(part, "max_bond", None) is not None or isinstance(part, (Head, Coarsen)):
            return
