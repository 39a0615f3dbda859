"""FeatureMap: a trainable feature map, from product states to product states."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from autoray import do

from ..arrays.backend import Array
from ..arrays.functions import concat, largest, stack, stop_gradient, sum_over
from ..arrays.random import random_generator
from ..chains.dims import check_both_dims, check_positive
from ..chains.terms import Cores
from ..layers.layer import Layer
from .functions import check_real, resolve_function

FAR = 1e-3
"""Coordinates up to about its inverse are preserved; see the notes of :class:`FeatureMap`."""


class FeatureMap(Layer):
    r"""Trainable features of every site of a product state, next to its constant channel.

    The vector of site k, :math:`x_k = a_k\,(1, \xi_k)`, becomes

    .. math:: y_k = a_k\,\bigl(1, \varphi_k(\xi_k)\bigr), \qquad
              \varphi_k(\xi) = W'_k f(W_k \xi + b_k) + b'_k .

    It extends the feature map of the encoder, where :math:`\xi` are the pixels of a patch
    (:class:`ftnn.encoding.ProductEncoder`), by a learned one: nonlinear where no bond is needed,
    before anything is entangled.

    Parameters
    ----------
    phys_dims : sequence of int
        Physical dimensions of the input, at least 2 and all equal.
    out_dims : sequence of int
        Physical dimensions of the output, at least 2 and all equal.
    hidden : int
        Length of the hidden vector.
    fn : {"relu", "gelu", "tanh", "sigmoid", "silu", "sin"} or callable
        As in :class:`ftnn.nonlinear.Pointwise`.
    share : bool
        Use the same features on every site.
    seed : int

    Notes
    -----
    *A function of the state.* A product state determines its site vectors up to factors whose
    product is 1. :math:`\xi_k` is independent of them, and :math:`\prod_k a_k` is the entry of the
    state at index (0, ..., 0): the output tensor is a function of the input tensor alone,
    homogeneous of degree 1. States with bonds have no such coordinates and raise an error.

    *Vectors without a constant channel.* With :math:`x_k = (a, v)`

    .. math:: \xi = \frac{a v}{a^2 + \epsilon^2 \|v\|^2}, \qquad \epsilon = 10^{-3},

    which is :math:`v / a` up to a relative :math:`10^{-6} \|v / a\|^2`, and goes to zero, smoothly,
    instead of to infinity where a does.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> from ftnn.encoding import ProductEncoder
    >>> images = np.random.default_rng(0).random((6, 8, 8))
    >>> x = ProductEncoder((8, 8), patch=(4, 4)).fit(images)(images)
    >>> features = ftnn.nonlinear.FeatureMap(x.phys_dims, (5, 5, 5, 5), hidden=8, share=True)
    >>> y = features(x)
    >>> y.phys_dims, y.bond_dims
    ((5, 5, 5, 5), (1, 1, 1))
    """

    in_dims: tuple[int, ...]
    out_dims: tuple[int, ...]

    def __init__(
        self,
        phys_dims: Sequence[int],
        out_dims: Sequence[int],
        hidden: int,
        fn: str | Any = "relu",
        share: bool = False,
        seed: int = 0,
    ):
        phys_dims, out_dims = check_both_dims(phys_dims, out_dims, "phys_dims")
        check_channels(phys_dims, "phys_dims")
        check_channels(out_dims, "out_dims")
        check_positive(hidden, "hidden")
        super().__init__(phys_dims, out_dims)
        function = resolve_function(fn, at_zero=True)
        self.phys_dims, self.hidden, self.share, self.seed = phys_dims, hidden, share, seed
        self.fn, self.function = function.argument, function
        rng = random_generator(seed, 4)
        n, p, q = 1 if share else len(phys_dims), phys_dims[0] - 1, out_dims[0] - 1
        shapes = {
            "inner": (n, p, hidden),
            "inner_bias": (n, 1, hidden),
            "outer": (n, hidden, q),
            "outer_bias": (n, 1, q),
        }
        self.declare(shapes, "hidden")
        self.params |= {
            "inner": rng.standard_normal(shapes["inner"]) / np.sqrt(p),
            "inner_bias": np.zeros(shapes["inner_bias"]),
            "outer": rng.standard_normal(shapes["outer"]) / np.sqrt(hidden),
            "outer_bias": np.zeros(shapes["outer_bias"]),
        }

    def apply(self, cores: Cores) -> Cores:
        """Map cores ``(batch, 1, phys, 1)`` to cores ``(batch, 1, out, 1)``."""
        remedy = "place it directly after a ProductEncoder"
        x = site_vectors(cores, "FeatureMap", remedy)  # (sites, batch, phys)
        constant, xi = coordinates(x)
        inner = self.function(xi @ self.params["inner"] + self.params["inner_bias"])
        phi = inner @ self.params["outer"] + self.params["outer_bias"]
        y = constant * concat((do("ones_like", phi[..., :1]), phi), 2)
        return tuple(y[k][:, None, :, None] for k in range(len(cores)))


def check_channels(dims: tuple[int, ...], argument: str) -> None:
    """Raise ``ValueError`` unless all sites have the same dimension, at least 2."""
    if len(set(dims)) > 1 or dims[0] < 2:
        raise ValueError(
            f"{argument} is {dims}, expected the same dimension on every site, at least 2: the "
            "constant channel and one more"
        )


def site_vectors(cores: Cores, kind: str, remedy: str) -> Array:
    """Return the vectors (sites, batch, phys) of real product states with equal dimensions.

    Parameters
    ----------
    cores : tuple of array (batch, 1, phys, 1)
    kind, remedy : str
        Class of the layer, and advice, in errors.
    """
    check_real(cores, kind)
    if any(core.shape[1] != 1 or core.shape[3] != 1 for core in cores):
        bonds = tuple(core.shape[3] for core in cores[:-1])
        raise ValueError(
            f"x has bond_dims {bonds}, but {kind} takes product states, of bond dimension 1; "
            f"{remedy}"
        )
    return stack([core[:, 0, :, 0] for core in cores], 0)


def coordinates(x: Array) -> tuple[Array, Array]:
    """Return the constant channel and the projective coordinates of vectors.

    Parameters
    ----------
    x : array (sites, batch, phys)

    Returns
    -------
    constant : array (sites, batch, 1)
    coordinates : array (sites, batch, phys - 1)
        Zero for a zero vector.
    """
    # the coordinates do not depend on the scale; the largest entry squares nothing, as a norm would
    top = largest(do("abs", stop_gradient(x)), 2)  # (sites, batch, 1)
    u = x / do("where", top > 0, top, do("ones_like", top))
    a, v = u[..., :1], u[..., 1:]
    square = a * a + FAR**2 * sum_over(v * v, (2,))[:, :, None]
    square = do("where", square > 0, square, do("ones_like", square))
    return x[..., :1], a * v / square
