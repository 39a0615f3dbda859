"""KAN: trainable univariate functions on the physical index of every core."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from autoray import do

from ..backend import Array, is_complex, permute, stack
from ..chain import Cores
from ..layer import Layer
from ..linalg import safe_norm
from ..states import check_dims, check_positive


class KAN(Layer):
    r"""A Kolmogorov-Arnold layer on cores, in Chebyshev polynomials of a squashed argument.

    Site by site, with :math:`u` the core scaled to mean square 1 per physical entry,

    .. math:: y[l, q, r] = \sum_p \phi_{qp}(u[l, p, r]), \qquad
              \phi_{qp}(u) = a_{qp} u + \sum_g c_{qpg} \psi_g(u), \qquad
              \psi_g(u) = T_{n_g}(\tanh u) - T_{n_g}(0),

    scaled back afterwards, so that the layer is homogeneous in each core.

    Parameters
    ----------
    phys_dims : sequence of int
        Physical dimensions taken.
    out_dims : sequence of int, optional
        Physical dimensions returned; by default the same.
    grid : int
        Number of basis functions.
    odd : bool
        Use odd polynomials only, :math:`n_g = 1, 3, 5, \ldots` (default; see the notes), or
        all, :math:`n_g = 1, 2, 3, \ldots`.
    share : bool
        Use the same functions on every site; needs equal dimensions.
    seed : int

    Notes
    -----
    *Zero padding.* :math:`\psi_g(0) = 0`, so a bond padded with zeros stays so. Scaling is by
    norms, which padding does not change, never by means over entries.

    *Basis.* Bounded, smooth and cheap: one tanh and two operations a polynomial.

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

    in_dims: tuple[int, ...]
    out_dims: tuple[int, ...]

    def __init__(
        self,
        phys_dims: Sequence[int],
        out_dims: Sequence[int] | None = None,
        grid: int = 3,
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
        check_positive(grid, "grid")
        if share and len(set(zip(phys_dims, out_dims, strict=True))) > 1:
            raise ValueError(
                f"share=True needs equal dimensions on every site, got {phys_dims} -> {out_dims}"
            )
        super().__init__(phys_dims, out_dims)
        self.grid, self.odd, self.share, self.seed = grid, odd, share, seed
        rng = np.random.default_rng((seed, 3))
        pairs = list(zip(phys_dims, out_dims, strict=True))[: 1 if share else None]
        for k, (p, q) in enumerate(pairs):
            self.params[f"linear.{k}"] = np.eye(p, q)  # (p, q)
            noise = 0.1 / np.sqrt(p * grid)
            self.params[f"curve.{k}"] = noise * rng.standard_normal((p, grid, q))

    def basis(self, u: Array) -> Array:
        """Basis functions at ``u``, array (..., grid); every one is 0 at 0."""
        t = do("tanh", u)
        double = 4.0 * t * t - 2.0 if self.odd else 2.0 * t  # 2 T_2 or 2 T_1
        # T_{n+2} = 2 T_2 T_n - T_{n-2} and T_{n+1} = 2 T_1 T_n - T_{n-1}
        values, before = [t], (t if self.odd else do("ones_like", t))
        while len(values) < self.grid:
            values.append(double * values[-1] - before)
            before = values[-2]
        if not self.odd:  # T_n(0) = 0, -1, 0, 1, ...
            values = [v - (0.0, -1.0, 0.0, 1.0)[n % 4] for n, v in enumerate(values)]
        return stack(values, -1)

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
        p, grid, q = curve.shape
        curved = self.basis(u) @ do("reshape", permute(curve, 1, 0, 2), (grid, p * q))
        return u[:, None, None] * linear + do("reshape", curved, (-1, p, q))

    def apply(self, cores: Cores) -> Cores:
        """Map cores ``(batch, left, p, right)`` to ``(batch, left, q, right)``."""
        if is_complex(cores[0]):
            raise TypeError("KAN acts on real cores; the input is complex")
        out = []
        for site, core in enumerate(cores):
            k = 0 if self.share else site
            linear, curve = self.params[f"linear.{k}"], self.params[f"curve.{k}"]
            batch, left, p, right = core.shape
            norm = safe_norm(core, (1, 2, 3)) / p**0.5
            norm = do("where", norm > 0, norm, do("ones_like", norm))[:, None, None, None]
            u = permute(core / norm, 0, 1, 3, 2)  # (batch, left, right, p)
            flat = do("reshape", self.basis(u), (batch, left, right, -1))
            new = u @ linear + flat @ do("reshape", curve, (-1, curve.shape[2]))
            out.append(permute(new, 0, 1, 3, 2) * norm)
        return tuple(out)

    def config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            "phys_dims": list(self.in_dims),
            "out_dims": list(self.out_dims),
            "grid": self.grid,
            "odd": self.odd,
            "share": self.share,
            "seed": self.seed,
        }
