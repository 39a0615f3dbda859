"""ProductMap: trainable products of neighbouring sites, from product states to product states."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from autoray import do

from ..arrays.backend import Array
from ..arrays.functions import concat, sum_over
from ..arrays.random import random_generator
from ..chains.dims import check_both_dims, check_dims, check_positive
from ..chains.terms import Cores
from ..layers.layer import Layer
from .feature_map import check_channels, coordinates, site_vectors
from .functions import resolve_function

TINY = 1e-6
"""Mean square of the coordinates up to which they are not scaled up."""

JOINS = ("product", "sum")
"""What may stand between the two factors instead of the name of a function of their sum."""


class ProductMap(Layer):
    r"""Products of trainable features of a site and of its neighbours, without an activation.

    The vector of site k, :math:`x_k = a_k\,(1, \xi_k)`, becomes :math:`y_k = a_k\,(1, \varphi_k)`,

    .. math:: \varphi_k = [\xi_k +]\ W' (u_k \circ v_k) + b', \qquad
              u_k = U \zeta_k + c, \qquad v_k = P_k\,(V \zeta + d),

    where :math:`\zeta_k` is :math:`\xi_k` at a root mean square of 1 and :math:`P_k` collects the
    second factor from the neighbours: with n ``shifts`` its channels are n groups, and group g
    comes from the site at the g-th shift on the ``grid``; it is zero outside. The weights
    are shared by all sites.

    Parameters
    ----------
    phys_dims : sequence of int
        Physical dimensions of the input, at least 2 and all equal.
    out_dims : sequence of int
        Physical dimensions of the output, at least 2 and all equal.
    hidden : int
        Number of products; a multiple of the number of shifts.
    grid : (rows, columns), optional
        Arrangement of the sites, row by row; by default one row.
    shifts : sequence of (int, int)
        Where the second factor comes from, in rows and columns; (0, 0) is the site itself.
    join : {"product", "sum"} or str
        What becomes of the two factors: their product entry by entry, their sum, which leaves a
        linear map but for the scaling, or a function of the sum by its name, as in
        :class:`ftnn.nonlinear.Pointwise`.
    residual : bool
        Whether to add :math:`\xi_k`; the dimensions must then be equal.
    normalize : bool
        Whether to scale the coordinates; otherwise :math:`\zeta_k = \xi_k`.
    seed : int

    Notes
    -----
    *Exact.* The output is a product state, so there is nothing to truncate. As for
    :class:`ftnn.nonlinear.FeatureMap`, the coordinates :math:`\xi_k` do not depend on the factors
    between the sites: the output is a function of the state, homogeneous of degree 1.

    *A gate of bond dimension 1.* With the shift (0, 0) alone and without scaling,
    :math:`u \circ v` is :class:`ftnn.nonlinear.Gated` without its offset and with weights of bond
    dimension 1, which its constant channels make affine; shared by all sites. Since the
    groups of channels are shifted independently, the general map is no operator on the state.

    *Initialization.* c starts at 1, so that a layer starts near an affine map of the neighbours
    with products in addition, and the other biases at 0.

    Source: networks of products without activations (Cheng et al., arXiv:2401.17992), whose
    layers also shift groups of channels to neighbours.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> from ftnn.encoding import ProductEncoder
    >>> images = np.random.default_rng(0).random((6, 8, 8))
    >>> x = ProductEncoder((8, 8), patch=(4, 4), order="row-major").fit(images)(images)
    >>> right_and_below = ftnn.nonlinear.ProductMap(
    ...     x.phys_dims, (5,) * 4, hidden=8, grid=(2, 2), shifts=((0, 1), (1, 0))
    ... )
    >>> y = right_and_below(x)
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
        grid: Sequence[int] | None = None,
        shifts: Sequence[Sequence[int]] = ((0, 0),),
        join: str = "product",
        residual: bool = False,
        normalize: bool = True,
        seed: int = 0,
    ):
        phys_dims, out_dims = check_both_dims(phys_dims, out_dims, "phys_dims")
        check_channels(phys_dims, "phys_dims")
        check_channels(out_dims, "out_dims")
        check_positive(hidden, "hidden")
        grid = (1, len(phys_dims)) if grid is None else check_dims(grid, "grid")
        if len(grid) != 2 or grid[0] * grid[1] != len(phys_dims):
            raise ValueError(
                f"grid is {grid}, expected (rows, columns) whose product is {len(phys_dims)}, the "
                "number of sites"
            )
        self.shifts = _check_shifts(shifts, hidden)
        if residual and phys_dims != out_dims:
            raise ValueError(
                f"out_dims is {out_dims}, but a residual needs those of the input, {phys_dims}"
            )
        function = None if join in JOINS else resolve_function(join, at_zero=True)
        super().__init__(phys_dims, out_dims)
        self.phys_dims, self.hidden, self.grid, self.join = phys_dims, hidden, grid, join
        self.residual, self.normalize, self.seed = residual, normalize, seed
        self._function = function
        p, q = phys_dims[0] - 1, out_dims[0] - 1
        shapes = {
            "first": (p, hidden),
            "first_bias": (hidden,),
            "second": (p, hidden),
            "second_bias": (hidden,),
            "outer": (hidden, q),
            "outer_bias": (q,),
        }
        self.declare(shapes, "hidden")
        rng = random_generator(seed, 7)
        gate, step = (0.5 if join == "product" else 1.0), (0.3 if residual else 1.0)
        self.params |= {
            "first": gate * rng.standard_normal(shapes["first"]) / np.sqrt(p),
            "first_bias": np.full(shapes["first_bias"], 1.0 if join == "product" else 0.0),
            "second": rng.standard_normal(shapes["second"]) / np.sqrt(p),
            "second_bias": np.zeros(shapes["second_bias"]),
            "outer": step * rng.standard_normal(shapes["outer"]) / np.sqrt(hidden),
            "outer_bias": np.zeros(shapes["outer_bias"]),
        }

    def apply(self, cores: Cores) -> Cores:
        """Map cores ``(batch, 1, phys, 1)`` to cores ``(batch, 1, out, 1)``."""
        remedy = "place it before the entangling layers"
        x = site_vectors(cores, "ProductMap", remedy)  # (sites, batch, phys)
        constant, xi = coordinates(x)
        zeta = scaled(xi) if self.normalize else xi
        first = zeta @ self.params["first"] + self.params["first_bias"]
        second = self._moved(zeta @ self.params["second"] + self.params["second_bias"])
        phi = self._joined(first, second) @ self.params["outer"] + self.params["outer_bias"]
        phi = xi + phi if self.residual else phi
        y = constant * concat((do("ones_like", phi[..., :1]), phi), 2)
        return tuple(y[k][:, None, :, None] for k in range(len(cores)))

    def _joined(self, first: Array, second: Array) -> Array:
        if self.join == "product":
            return first * second
        both = first + second
        return both if self._function is None else self._function(both)

    def _moved(self, x: Array) -> Array:
        """Take groups of channels of x (sites, batch, hidden) from the neighbours."""
        if self.shifts == ((0, 0),):
            return x
        size = self.hidden // len(self.shifts)
        x = do("reshape", x, (*self.grid, *x.shape[1:]))  # (rows, columns, batch, hidden)
        groups = []
        for g, (down, right) in enumerate(self.shifts):
            group = x[..., g * size : (g + 1) * size]
            groups.append(_shifted(_shifted(group, down, 0), right, 1))
        moved = concat(groups, 3)
        return do("reshape", moved, (-1, *moved.shape[2:]))


def _check_shifts(shifts: Sequence[Sequence[int]], hidden: int) -> tuple[tuple[int, ...], ...]:
    """Return the shifts as tuples, or raise ``ValueError``."""
    found: list[tuple[int, ...]] = []
    for shift in shifts:
        pair: Any = tuple(shift) if isinstance(shift, (tuple, list)) else ()
        if len(pair) != 2 or any(
            isinstance(s, bool) or not isinstance(s, (int, np.integer)) for s in pair
        ):
            raise ValueError(f"shifts has {shift!r}, expected pairs of integers: rows, columns")
        found.append((int(pair[0]), int(pair[1])))
    if not found or hidden % len(found):
        raise ValueError(
            f"hidden is {hidden}, expected a multiple of the {len(found)} shifts: every shift "
            "takes as many channels"
        )
    return tuple(found)


def _shifted(x: Array, by: int, axis: int) -> Array:
    """Return ``x`` (rows, columns, batch, channels) with the entries at ``place + by``, or zero."""
    if by == 0:
        return x
    if abs(by) >= x.shape[axis]:
        return x * 0.0
    if axis == 0:
        kept, gone = (x[by:], x[:by]) if by > 0 else (x[:by], x[by:])
    else:
        kept, gone = (x[:, by:], x[:, :by]) if by > 0 else (x[:, :by], x[:, by:])
    zeros = do("zeros_like", gone)
    return concat((kept, zeros) if by > 0 else (zeros, kept), axis)


def scaled(xi: Array) -> Array:
    """Scale coordinates (sites, batch, n) to a root mean square of 1; small ones stay small."""
    mean = sum_over(xi * xi, (2,))[:, :, None] / xi.shape[2]
    return xi / do("sqrt", mean + TINY)
