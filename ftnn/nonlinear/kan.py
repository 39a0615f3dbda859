"""KAN: trainable univariate functions on the physical index of every core."""

from collections.abc import Sequence

import numpy as np
from autoray import do, infer_backend

from ..arrays.backend import Array, as_like, to_numpy
from ..arrays.functions import matrix_transpose, permute
from ..arrays.random import random_generator
from ..chains.dims import check_both_dims, check_positive
from ..chains.terms import Cores
from ..layers.layer import Layer, site_entries
from . import bases
from .functions import check_mean_dims, check_real, counts_of, scaled_entries


class KAN(Layer):
    r"""A Kolmogorov-Arnold layer on cores: trainable functions on the physical index.

    Site by site, with :math:`u` the core scaled to mean square 1 per physical entry,

    .. math:: y[l, q, r] = \sum_p \phi_{qp}(u[l, p, r]), \qquad
              \phi_{qp}(u) = a_{qp} u + \sum_g c_{qpg} \psi_g(u), \qquad \psi_g(0) = 0,

    scaled back afterwards, so that the layer is homogeneous in each core.

    Parameters
    ----------
    phys_dims : sequence of int
        Physical dimensions of the input.
    out_dims : sequence of int, optional
        Physical dimensions of the output; by default the same.
    basis : {"chebyshev", "radial", "spline"}
        Chebyshev polynomials of tanh u; Gaussians; or B-splines on a grid that can be adapted
        (:meth:`update_grid`) and refined (:meth:`refine`), as in pykan. The last two initially
        cover -3 to 3.
    grid : int
        Number of polynomials or Gaussians, or of intervals of the splines (on either side of 0,
        with ``odd``).
    odd : bool
        Use odd functions only (default; see the notes).
    share : bool
        Use the same functions on every site; needs equal dimensions.
    order : int, optional
        Degree of the splines, by default 3.
    seed : int
    mean_dims : sequence of int, optional
        Number of channels of every site that the mean square is taken over, by default all;
        :func:`ftnn.growth.widen` keeps the old ones.

    Notes
    -----
    *Zero padding.* :math:`\psi_g(0) = 0`, so padding of bonds with zeros is preserved. Scaling is
    by norms, which padding does not change, never by means over entries.

    *Gauge.* It is a function of the vector only in a fixed gauge: place it after a
    :class:`ftnn.Linear`, :class:`ftnn.Residual`, :class:`ftnn.nonlinear.SketchGauge` or
    :class:`ftnn.nonlinear.SVDGauge`.

    *Why odd.* The sketch gauge fixes the cores as a function of the tensor, but where the
    pivot of a bond direction passes through zero its sign jumps. A jump multiplies row
    :math:`r` of one core and :math:`l` of the next by -1. An odd :math:`\phi` commutes with that,
    and the output tensor is continuous; with a ReLU or any other even part it is not.

    *Initialization.* a is the identity (semi-orthogonal where dimensions differ), c is small
    noise: the layer starts near the identity.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((6, 64)), (4, 4, 4))
    >>> ftnn.nonlinear.KAN((4, 4, 4), out_dims=(3, 3, 3))(x).phys_dims
    (3, 3, 3)
    """

    in_dims: tuple[int, ...]
    out_dims: tuple[int, ...]

    def __init__(
        self,
        phys_dims: Sequence[int],
        out_dims: Sequence[int] | None = None,
        basis: str = "chebyshev",
        grid: int = 3,
        odd: bool = True,
        share: bool = False,
        order: int | None = None,
        seed: int = 0,
        mean_dims: Sequence[int] | None = None,
    ):
        phys_dims, out_dims = check_both_dims(phys_dims, out_dims or phys_dims, "phys_dims")
        if basis not in bases.BASES:
            raise ValueError(f"basis is {basis!r}; choose one of {', '.join(bases.BASES)}")
        check_positive(grid, "grid")
        if order is None and basis == "spline":
            order = 3
        elif order is not None and basis != "spline":
            raise ValueError(f"order is {order!r}, but only the basis 'spline' has one")
        if order is not None:
            check_positive(order, "order")
        if share and len(set(zip(phys_dims, out_dims, strict=True))) > 1:
            raise ValueError(
                f"share=True needs equal dimensions on every site, got {phys_dims} -> {out_dims}"
            )
        super().__init__(phys_dims, out_dims)
        self.phys_dims = phys_dims
        self.basis, self.grid, self.odd = basis, grid, odd
        self.share, self.order, self.seed = share, order, seed
        self.mean_dims = check_mean_dims(mean_dims, phys_dims)
        rng = random_generator(seed, 3)
        count = bases.size(basis, grid, odd, order or 0)
        pairs = list(zip(phys_dims, out_dims, strict=True))[: 1 if share else None]
        curves = [(p, count, q) for p, q in pairs]
        shapes = site_entries("linear", pairs) | site_entries("curve", curves)
        if order is not None:
            knots = grid * (2 if odd else 1) + 1 + 2 * order
            shapes |= site_entries("knots", [(knots,)] * len(pairs))
        self.declare(shapes, "phys_dims or grid")
        for k, (p, q) in enumerate(pairs):
            self.params[f"linear.{k}"] = np.eye(p, q)  # (p, q)
            noise = 0.1 / np.sqrt(p * count)
            self.params[f"curve.{k}"] = noise * rng.standard_normal((p, count, q))
            if order is not None:
                self.buffers[f"knots.{k}"] = bases.uniform_knots(grid, order, odd)

    @property
    def has_grid(self) -> bool:
        """Whether the basis is that of splines, whose knots can move."""
        return self.basis == "spline"

    def values(self, u: Array, site: int = 0) -> Array:
        """Evaluate the basis functions of a site, 0 at 0, at ``u``: array (functions, ...)."""
        if self.basis == "chebyshev":
            return bases.chebyshev(u, self.grid, self.odd)
        if self.basis == "radial":
            return bases.radial(u, self.grid, self.odd)
        knots = self.buffers[f"knots.{0 if self.share else site}"]
        return bases.spline(u, knots, self._splines("values"), self.odd)

    def functions(self, u: Array, site: int = 0) -> Array:
        """Evaluate the fitted functions of one site, to read or plot.

        Parameters
        ----------
        u : array (n,)
            Arguments, in units of the scaled core entries.
        site : int

        Returns
        -------
        array (n, p, q)
            ``phi_qp(u)``.
        """
        k = 0 if self.share else site
        linear, curve = self.params[f"linear.{k}"], self.params[f"curve.{k}"]
        p, count, q = curve.shape
        by_function = do("reshape", permute(curve, 1, 0, 2), (count, p * q))
        curves = permute(self.values(u, site), 1, 0) @ by_function  # (n, p q)
        return u[:, None, None] * linear + do("reshape", curves, (-1, p, q))

    def apply(self, cores: Cores) -> Cores:
        """Map cores ``(batch, left, p, right)`` to ``(batch, left, q, right)``."""
        check_real(cores, "KAN")
        out = []
        for site, (core, count) in enumerate(
            zip(cores, counts_of(cores, self.mean_dims), strict=True)
        ):
            k = 0 if self.share else site
            linear, curve = self.params[f"linear.{k}"], self.params[f"curve.{k}"]
            batch, left, p, right = core.shape
            u, norm = scaled_entries(core, count)
            u = do("reshape", permute(u, 2, 0, 1, 3), (p, -1))  # (p, batch left right)
            values = do("reshape", self.values(u, site), (-1, u.shape[1]))
            mixing = do("reshape", permute(curve, 2, 1, 0), (curve.shape[2], -1))
            new = matrix_transpose(linear) @ u + mixing @ values  # (q, batch left right)
            new = do("reshape", new, (-1, batch, left, right))
            out.append(permute(new, 1, 2, 0, 3) * norm)
        return tuple(out)

    def update_grid(self, cores: Cores, uniform: float = 0.1) -> None:
        """Move the knots of the splines to the range of the data, and refit the functions.

        Parameters
        ----------
        cores : tuple of array (batch, left, p, right)
            Inputs of this layer; :func:`ftnn.layers.calibration.update_grids` collects them in a
            network.
        uniform : float
            Weight of the even grid that is mixed in.

        Notes
        -----
        Knots are placed at quantiles of the nonzero scaled entries. The new functions are the least
        squares fit to the old ones at the data.
        """
        if not 0.0 < uniform <= 1.0:
            raise ValueError(f"uniform is {uniform!r}, expected a number in (0, 1]")
        order = self._splines("update_grid")
        entries = [
            to_numpy(scaled_entries(core, count)[0]).ravel()
            for core, count in zip(cores, counts_of(cores, self.mean_dims), strict=True)
        ]
        if self.share:
            entries = [np.concatenate(entries)]
        for k, samples in enumerate(entries):
            samples = samples[samples != 0.0].astype(np.float64)
            if len(samples) > self.grid:
                knots = bases.adapted_knots(samples, self.grid, order, self.odd, uniform)
                self._refit(k, knots, np.unique(np.quantile(samples, np.linspace(0, 1, 1000))))

    def refine(self, grid: int) -> None:
        """Refine the grid without changing the functions.

        Parameters
        ----------
        grid : int
            New number of intervals. Parameters change their shapes: create a new optimizer, and a
            new :class:`ftnn.training.TorchModule`.
        """
        check_positive(grid, "grid")
        order = self._splines("refine")
        old, self.grid = self.grid, grid
        for k in range(len(self.buffers)):
            inner = to_numpy(self.buffers[f"knots.{k}"])[order:-order]
            count = grid * (2 if self.odd else 1)
            places = np.linspace(0.0, len(inner) - 1.0, count + 1)
            finer = np.interp(places, np.arange(len(inner)), inner)
            samples = np.linspace(inner[0], inner[-1], 20 * max(old, grid) + 1)
            self._refit(k, bases.extend_knots(finer, order), samples)

    def _splines(self, method: str) -> int:
        """Return the degree of the splines, or raise ``ValueError``."""
        if self.order is None:
            raise ValueError(
                f"{method} needs basis 'spline', this layer has {self.basis!r}: its grid is fixed"
            )
        return self.order

    def _refit(self, k: int, knots: np.ndarray, samples: np.ndarray) -> None:
        curve, like = self.params[f"curve.{k}"], self.params[f"linear.{k}"]
        old_knots = to_numpy(self.buffers[f"knots.{k}"]).astype(np.float64)
        order = self._splines("refit")
        before = bases.spline(samples, old_knots, order, self.odd).T  # (n, functions)
        after = bases.spline(samples, knots, order, self.odd).T
        targets = np.einsum("ng,pgq->npq", before, to_numpy(curve).astype(np.float64))
        p, q = targets.shape[1:]
        fitted = np.linalg.lstsq(after, targets.reshape(len(samples), -1), rcond=None)[0]
        new = fitted.reshape(-1, p, q).transpose(1, 0, 2)
        _replace(self.params, f"curve.{k}", as_like(np.ascontiguousarray(new), like))
        _replace(self.buffers, f"knots.{k}", as_like(knots, like))


def _replace(store: dict[str, Array], key: str, new: Array) -> None:
    """Replace an array, in place where it may be a parameter of a torch module."""
    if infer_backend(new) == "torch" and store[key].shape == new.shape:
        store[key].detach().copy_(new)
    else:
        store[key] = new
