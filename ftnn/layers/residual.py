"""Residual: a layer added to its input."""

from typing import Any

from ..chains.bonds import MaxBond, check_bonds, largest_bond
from ..chains.terms import Cores, State, Term
from ..truncation.src import compress_src
from .initialization import sketch_of_layer
from .layer import Layer, collect, named


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
