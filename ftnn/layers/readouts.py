"""Output layers of a network: dense outputs of states."""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from autoray import do

from ..arrays.backend import Array, as_dtype_of
from ..arrays.functions import matrix_transpose, permute
from ..arrays.random import random_generator
from ..chains.dims import check_dims, check_positive
from ..chains.magnitude import divide_state
from ..chains.operators import weight_bonds
from ..chains.overlap import (
    absorb_sandwich,
    absorb_sandwich_right,
    absorb_sites,
    absorb_weight,
    absorb_weight_right,
    conjugated,
    overlap,
)
from ..chains.terms import Cores
from .initialization import initial_weight, weight_shapes
from .layer import Layer, collect, scale_evenly, site_entries


class Head(Layer):
    """A layer with dense outputs (batch, num_outputs), whose index sits on the middle site.

    Attributes
    ----------
    num_outputs, bond_dim, seed : int
    """

    in_dims: tuple[int, ...]

    def __init__(self, in_dims: Sequence[int], num_outputs: int, bond_dim: int, seed: int):
        in_dims = check_dims(in_dims, "in_dims")
        check_positive(bond_dim, "bond_dim")
        check_positive(num_outputs, "num_outputs")
        super().__init__(in_dims)
        self.num_outputs, self.bond_dim, self.seed = num_outputs, bond_dim, seed

    @property
    def center(self) -> int:
        """Site of the output index."""
        return len(self.in_dims) // 2

    def operators(self) -> dict[str, Cores]:
        """Return the weight, whose output index is the outgoing index of the middle site."""
        return {"weight": collect(self.params, "weight")}

    def rescale(self, log_factor: float) -> None:
        """Multiply the outputs by ``exp(log_factor)``: they are linear in the weight."""
        scale_evenly(self.params, "weight", log_factor)

    @abstractmethod
    def contract(self, cores: Cores) -> tuple[Array, Array]:
        """Compute outputs in log scale, ``out * exp(log_scale)[:, None]``; safe for any length."""

    def apply(self, cores: Cores) -> Array:
        """Map cores ``(batch, left, in, right)`` to outputs ``(batch, num_outputs)``."""
        out, log_scale = self.contract(cores)
        return out * as_dtype_of(do("exp", log_scale), out)[:, None]


class Readout(Head):
    """Dense outputs: overlaps of the state with an MPS that carries the output index.

    Parameters
    ----------
    in_dims : sequence of int
    num_outputs : int
        The output index sits on the middle site.
    bond_dim : int
        Bond dimension of the readout MPS.
    seed : int

    Notes
    -----
    The output is linear in the state and is not truncated: both halves of the chain are
    contracted towards the middle site, in log scale.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((6, 64)), (4, 4, 4))
    >>> ftnn.Readout((4, 4, 4), num_outputs=10, bond_dim=5)(x).shape
    (6, 10)
    """

    in_dims: tuple[int, ...]

    def __init__(self, in_dims: Sequence[int], num_outputs: int, bond_dim: int, seed: int = 0):
        super().__init__(in_dims, num_outputs, bond_dim, seed)
        outs = [1] * len(self.in_dims)
        outs[self.center] = num_outputs
        shapes = weight_shapes(self.in_dims, tuple(outs), bond_dim)
        self.declare(site_entries("weight", shapes), "bond_dim")
        # (left, out, in, right); out is 1 but on the middle site
        cores = initial_weight(self.in_dims, tuple(outs), bond_dim, seed)
        self.params |= site_entries("weight", cores)

    def contract(self, cores: Cores) -> tuple[Array, Array]:
        """Compute outputs in log scale, ``out * exp(log_scale)[:, None]``; safe for any length."""
        weights, center = collect(self.params, "weight"), self.center
        batch, L = cores[0].shape[0], len(cores)
        # (wl, in, wr), but for the middle site with its output index
        shared = [do("reshape", w, (w.shape[0], -1, w.shape[3])) for w in weights]
        edge = do("ones", (batch, 1, 1), like=cores[0])
        left, log_scale = absorb_sites(
            lambda env, k: absorb_weight(env, shared[k], cores[k]), edge, range(center)
        )
        right, other_scale = absorb_sites(
            lambda env, k: absorb_weight_right(env, shared[k], cores[k]),
            edge,
            range(L - 1, center, -1),
        )
        w, x = weights[center], cores[center]  # (wl, out, in, wr), (batch, xl, in, xr)
        new = left @ do("reshape", x, (batch, x.shape[1], -1))  # (batch, wl, in*xr)
        new = do("reshape", new, (batch, -1, x.shape[3])) @ matrix_transpose(right)
        w = do("reshape", permute(w, 0, 2, 3, 1), (-1, self.num_outputs))  # (wl*in*wr, out)
        return do("reshape", new, (batch, -1)) @ w, log_scale + other_scale


class Expectation(Head):
    r"""Dense outputs: expectation values of trainable operators in the state.

    .. math:: y_c = \frac{\Re \langle x | O_c | x \rangle}{\langle x | x \rangle}

    with MPOs :math:`O_c` that share all cores but the middle one. These are the measurable
    quantities of a quantum state: they do not depend on the sign, the phase or the norm of x, and
    only on the Hermitian part of :math:`O_c`.

    Parameters
    ----------
    in_dims : sequence of int
    num_outputs : int
        The output index sits on the middle site.
    bond_dim : int
        Bond dimension D of the operators.
    seed : int

    Notes
    -----
    Nothing is truncated: both halves of the sandwich are contracted towards the middle site, in
    log scale, at a cost of :math:`L D \chi^2 p (\chi + D p)` per sample. A zero vector gives zeros.

    The operators start as identities, on the first bond channel, plus noise of weight
    :math:`\min(1, 2/L)` per site: to first order a sum of operators on single sites, to second
    order on pairs of neighbours, and so on.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((6, 64)), (4, 4, 4))
    >>> layer = ftnn.Expectation((4, 4, 4), num_outputs=2, bond_dim=5)
    >>> scaled = ftnn.MPS([-3.0 * x.cores[0], *x.cores[1:]])
    >>> layer(x).shape, bool(np.allclose(layer(scaled), layer(x)))
    ((6, 2), True)
    """

    def __init__(self, in_dims: Sequence[int], num_outputs: int, bond_dim: int, seed: int = 0):
        super().__init__(in_dims, num_outputs, bond_dim, seed)
        rng = random_generator(seed, 3)
        bonds = weight_bonds(self.in_dims, self.in_dims, bond_dim)
        copies = [num_outputs if k == self.center else 1 for k in range(len(self.in_dims))]
        outs = [n * p for n, p in zip(copies, self.in_dims, strict=True)]
        shapes = list(zip(bonds[:-1], outs, self.in_dims, bonds[1:], strict=True))
        self.declare(site_entries("weight", shapes), "bond_dim")
        noise = min(1.0, 2.0 / len(self.in_dims))
        cores = []
        for k, (p, left, right) in enumerate(zip(self.in_dims, bonds[:-1], bonds[1:], strict=True)):
            core = rng.standard_normal((left, copies[k], p, p, right)) * noise / np.sqrt(p)
            core += np.eye(left, right)[:, None, None, None, :] * np.eye(p)[:, :, None]
            # (left, copies * out, in, right): the output index goes with the physical one
            cores.append(core.reshape(shapes[k]))
        self.params |= site_entries("weight", cores)

    def contract(self, cores: Cores) -> tuple[Array, Array]:
        """Compute outputs in log scale, ``out * exp(log_scale)[:, None]``; safe for any length."""
        weights, center = collect(self.params, "weight"), self.center
        batch, copies, L = cores[0].shape[0], self.num_outputs, len(cores)
        small, log, _ = divide_state(cores)
        bra = conjugated(small)
        l, _, p, r = weights[center].shape
        # the output index travels with the right bond
        middle = do("reshape", weights[center], (l, copies, p, p, r))
        middle = do("reshape", permute(middle, 0, 2, 3, 1, 4), (l, p, p, copies * r))
        operators = [*weights[:center], middle, *weights[center + 1 :]]
        edge = do("ones", (batch, 1, 1, 1), like=cores[0])  # (batch, bra bond, D, ket bond)
        left, log_scale = absorb_sites(
            lambda env, k: absorb_sandwich(env, bra[k], operators[k], small[k]),
            edge,
            range(center + 1),
        )
        right, other_scale = absorb_sites(
            lambda env, k: absorb_sandwich_right(env, bra[k], operators[k], small[k]),
            edge,
            range(L - 1, center, -1),
        )
        bonds = left.shape[1], left.shape[3]
        left = permute(do("reshape", left, (batch, bonds[0], copies, r, bonds[1])), 0, 2, 1, 3, 4)
        left = do("reshape", left, (batch, copies, -1))  # (batch, out, bra bond * D * ket bond)
        out = left @ do("reshape", right, (batch, -1, 1))
        out = do("real", do("reshape", out, (batch, copies)))
        norm, norm_scale = overlap(cores, cores)
        norm = do("real", norm)
        norm = do("where", norm > 0, norm, do("ones_like", norm))
        return out / norm[:, None], log_scale + other_scale + 2.0 * log - norm_scale
