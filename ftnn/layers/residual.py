"""Residual: a layer added to its input."""

from ..chains.bonds import MaxBond, check_bonds
from ..chains.terms import Cores, State, Term
from ..truncation.src import compress_src
from .initialization import sketch_of_layer, sketch_shapes
from .layer import Layer, collect, site_entries


class Residual(Layer):
    """``y = x + layer(x)``, truncated by the layer's own sketch.

    Parameters
    ----------
    layer : Layer
        Layer with equal physical dimensions of input and output.
    max_bond : int or sequence of int
        Bond dimension of the output.
    seed : int
        Seed of the test matrices.
    """

    recomputes_itself = True

    def __init__(self, layer: Layer, max_bond: MaxBond, seed: int = 0):
        if not isinstance(layer, Layer):
            raise TypeError(f"layer is a {type(layer).__name__}, expected a Layer")
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
        self.declare(site_entries("omega", sketch_shapes(layer.in_dims, max_bond)), "max_bond")
        self.buffers |= site_entries("omega", sketch_of_layer(layer.in_dims, seed, max_bond))

    def terms(self, cores: Cores) -> tuple[Term, ...]:
        """Return the sum of the input and the output of the inner layer, before truncation."""
        return (Term(State(cores)), Term(State(self.children["layer"].apply(cores))))

    def apply(self, cores: Cores) -> Cores:
        """Map cores to cores of the same physical dimensions."""
        omegas = collect(self.buffers, "omega")
        return compress_src(self.terms(cores), omegas, self.max_bond)
