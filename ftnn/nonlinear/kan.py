"""KAN: trainable univariate functions on the physical index of every core."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from autoray import do

from ..backend import Array, is_complex, permute
from ..chain import Cores
from ..layer import Layer
from ..linalg import safe_norm
from ..states import check_dims


class KAN(Layer):
    r"""A Kolmogorov-Arnold layer on cores, in a Gaussian radial basis.

    Site by site, with :math:`u` the core scaled to mean square 1 per physical entry,

    .. math:: y[l, q, r] = \sum_p \phi_{qp}(u[l, p, r]), \qquad
              \phi_{qp}(u) = a_{qp} u + \sum_g c_{qpg} \psi_g(u),

    scaled back afterwards, so that the layer is homogeneous in each core.

    Parameters
    ----------
    phys_dims : sequence of int
        Physical dimensions taken.
    out_dims : sequence of int, optional
        Physical dimensions returned; by default the same.
    grid : int
        Number of basis functions.
    extent : float
        The basis functions are centred in [-extent, extent] (odd: (0, extent]).
    odd : bool
        Use odd basis functions (default); see the notes.
    share : bool
        Use the same functions on every site; needs equal dimensions.
    seed : int

    Notes
    -----
    *Zero padding.* :math:`\psi_g(0) = 0`, so a bond padded with zeros stays so:
    :math:`\psi_g(u) = e^{-(u-t_g)^2/h^2} - e^{-t_g^2/h^2}`, and for ``odd``
    :math:`\psi_g(u) = e^{-(u-t_g)^2/h^2} - e^{-(u+t_g)^2/h^2}`. Scaling is by norms, which
    padding does not change, never by means over entries.

    *Why odd.* The sketch gauge fixes the cores as a function of the tensor, but where the
    pivot of a bond direction passes through zero its sign jumps. A jump multiplies row
    :math:`r` of one core and :math:`l` of the next by -1. An odd :math:`\phi` commutes with
    that, and the output tensor is continuous; a ReLU or any other even part is not.

    *Initialization.* a is the identity (semi-orthogonal where dimensions differ), c is small
    noise: the layer starts near the identity.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((6, 64)), (4, 4, 4))
    >>> ftnn.nonlinear.KAN((4, 4, 4), out_dims=(3, 3, 3))(x).phys_dims
    (3, 3, 3)
    """

    def __init__(
        self,
        phys_dims: Sequence[int],
        out_dims: Sequence[int] | None = None,
        grid: int = 4,
        extent: float = 2.0,
        odd: bool = True,
        share: bool = False,
        seed: int = 0,
    ):
        phys_dims = check_dims(phys_dims, "phys_dims")
        out_dims = phys_dims if out_dims is None else check_dims(out_dims, "out_dims")
        if len(out_dims) != len(phys_dims):
            raise ValueError(
                f"phys_dims has {len(phys_dims)} sites and out_dims {len(out_dims)}; "
                "both need the same"
            )
        if grid < 2:
            raise ValueError(f"grid is {grid}, expected at least 2 basis functions")
        if not extent > 0.0:
            raise ValueError(f"extent is {extent!r}, expected a positive number")
        if share and len(set(zip(phys_dims, out_dims, strict=True))) > 1:
            raise ValueError(
                f"share=True needs equal dimensions on every site, got {phys_dims} -> {out_dims}"
            )
        super().__init__(phys_dims, out_dims)
        self.grid, self.extent, self.odd, self.share, self.seed = grid, extent, odd, share, seed
        rng = np.random.default_rng((seed, 3))
        pairs = list(zip(phys_dims, out_dims, strict=True))[: 1 if share else None]
        for k, (p, q) in enumerate(pairs):
            self.params[f"linear.{k}"] = np.eye(p, q)  # (p, q)
            noise = 0.1 / np.sqrt(p * grid)
            self.params[f"spline.{k}"] = noise * rng.standard_normal((p, grid, q))
        self.buffers["centers"] = self._centers()

    def _centers(self) -> np.ndarray:
        if self.odd:
            return np.linspace(0.0, self.extent, self.grid + 1)[1:]
        return np.linspace(-self.extent, self.extent, self.grid)

    def basis(self, u: Array) -> Array:
        """Basis functions at ``u``, array (..., grid); every one is 0 at 0."""
        centers = self.buffers["centers"]
        width = 2.0 * self.extent / (2 * self.grid if self.odd else self.grid - 1)
        u = u[..., None] / width
        centers = centers / width
        bumps = do("exp", -((u - centers) ** 2))
        if self.odd:
            return bumps - do("exp", -((u + centers) ** 2))
        return bumps - do("exp", -(centers**2))

    def functions(self, u: Array, site: int = 0) -> Array:
        """The fitted functions of one site, to read or plot.

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
        linear, spline = self.params[f"linear.{k}"], self.params[f"spline.{k}"]
        p, grid, q = spline.shape
        curved = self.basis(u) @ do("reshape", permute(spline, 1, 0, 2), (grid, p * q))
        return u[:, None, None] * linear + do("reshape", curved, (-1, p, q))

    def apply(self, cores: Cores) -> Cores:
        """Map cores ``(batch, left, p, right)`` to ``(batch, left, q, right)``."""
        if is_complex(cores[0]):
            raise TypeError("KAN acts on real cores; the input is complex")
        out = []
        for site, core in enumerate(cores):
            k = 0 if self.share else site
            linear, spline = self.params[f"linear.{k}"], self.params[f"spline.{k}"]
            batch, left, p, right = core.shape
            norm = safe_norm(core, (1, 2, 3)) / p**0.5
            norm = do("where", norm > 0, norm, do("ones_like", norm))[:, None, None, None]
            u = permute(core / norm, 0, 1, 3, 2)  # (batch, left, right, p)
            flat = do("reshape", self.basis(u), (batch, left, right, -1))
            new = u @ linear + flat @ do("reshape", spline, (-1, spline.shape[2]))
            out.append(permute(new, 0, 1, 3, 2) * norm)
        return tuple(out)

    def config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            "phys_dims": list(self.in_dims),
            "out_dims": list(self.out_dims),
            "grid": self.grid,
            "extent": self.extent,
            "odd": self.odd,
            "share": self.share,
            "seed": self.seed,
        }
