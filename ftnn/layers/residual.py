"""Residual: a layer added to its input, or to a linear map of it."""

from ..chains.bonds import MaxBond, check_bonds
from ..chains.terms import Cores, State, Term
from ..truncation.src import compress_src
from .initialization import sketch_of_layer, sketch_shapes
from .layer import Layer, collect, site_entries


class Residual(Layer):
    """``y = x + layer(x)``, or ``shortcut(x) + layer(x)``, truncated by the layer's own sketch.

    Parameters
    ----------
    layer : Layer
        Layer with equal physical dimensions of input and output, unless there is a shortcut.
    max_bond : int or sequence of int
        Bond dimension of the output.
    seed : int
        Seed of the test matrices.
    shortcut : Layer, optional
        With the dimensions of ``layer``; by default the identity.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((6, 16)), (4, 4))
    >>> inner, shortcut = (ftnn.Linear((4, 4), (3, 3), 2, 3, seed=n) for n in (0, 1))
    >>> layer = ftnn.Residual(inner, max_bond=3, shortcut=shortcut)
    >>> y = layer(x).to_dense()
    >>> bool(np.allclose(y, inner(x).to_dense() + shortcut(x).to_dense()))
    True
    """

    in_dims: tuple[int, ...]
    out_dims: tuple[int, ...]
    recomputes_itself = True

    def __init__(
        self,
        layer: Layer,
        max_bond: MaxBond,
        seed: int = 0,
        shortcut: Layer | None = None,
    ):
        if not isinstance(layer, Layer):
            raise TypeError(f"layer is a {type(layer).__name__}, expected a Layer")
        if layer.in_dims is None or layer.out_dims is None:
            raise ValueError("layer has no in_dims of its own; wrap a Linear or a Sequential")
        if shortcut is None and layer.in_dims != layer.out_dims:
            raise ValueError(
                f"layer maps {layer.in_dims} to {layer.out_dims}; a residual needs the same dims, "
                "or a shortcut with those of layer"
            )
        if shortcut is not None and not isinstance(shortcut, Layer):
            raise TypeError(f"shortcut is a {type(shortcut).__name__}, expected a Layer")
        if shortcut is not None and (shortcut.in_dims, shortcut.out_dims) != (
            layer.in_dims,
            layer.out_dims,
        ):
            raise ValueError(
                f"shortcut maps {shortcut.in_dims} to {shortcut.out_dims}, but layer maps "
                f"{layer.in_dims} to {layer.out_dims}; give it the same dims"
            )
        max_bond = check_bonds(max_bond, len(layer.out_dims))
        super().__init__(layer.in_dims, layer.out_dims)
        self.max_bond, self.seed = max_bond, seed
        self.children["layer"] = layer
        if shortcut is None:
            self.shortcut = None
        else:
            self.children["shortcut"] = shortcut
        self.declare(site_entries("omega", sketch_shapes(layer.out_dims, max_bond)), "max_bond")
        self.buffers |= site_entries("omega", sketch_of_layer(layer.out_dims, seed, max_bond))

    def terms(self, cores: Cores) -> tuple[Term, ...]:
        """Return the input, or the output of the shortcut, and the output of the inner layer."""
        layer, shortcut = self.children["layer"], self.children.get("shortcut")
        other = cores if shortcut is None else shortcut.apply(cores)
        return (Term(State(other)), Term(State(layer.apply(cores))))

    def apply(self, cores: Cores) -> Cores:
        """Map cores ``(batch, left, in, right)`` to ``(batch, left, out, right)``."""
        omegas = collect(self.buffers, "omega")
        return compress_src(self.terms(cores), omegas, self.max_bond)
