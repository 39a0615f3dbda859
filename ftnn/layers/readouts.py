"""Output layers of a network: dense outputs of states."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from autoray import do

from ..arrays.backend import Array, as_dtype_of
from ..arrays.functions import dims_product, matrix_transpose, permute
from ..arrays.random import random_generator
from ..chains.bonds import MaxBond, check_bonds
from ..chains.dims import check_dims, check_positive
from ..chains.magnitude import divide_state
from ..chains.operators import MPO, weight_bonds
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
from .dense import (
    DenseError,
    check_product,
    corrected_bias,
    covariance,
    dense_arrays,
    operator_of,
    output_error,
    relative,
)
from .initialization import initial_weight, weight_shapes
from .layer import Layer, collect, scale_evenly, site_entries


class Head(Layer):
    """A layer with dense outputs (batch, num_outputs), whose index sits on one site.

    Attributes
    ----------
    num_outputs, seed : int
    bond_dim : int or tuple of int
    output_site : int or None
        Site of the output index; None for the middle one.
    """

    in_dims: tuple[int, ...]

    def __init__(
        self,
        in_dims: Sequence[int],
        num_outputs: int,
        bond_dim: MaxBond,
        seed: int,
        output_site: int | None = None,
    ):
        in_dims = check_dims(in_dims, "in_dims")
        bond_dim = check_bonds(bond_dim, len(in_dims), "bond_dim")
        check_positive(num_outputs, "num_outputs")
        if output_site is not None and output_site not in range(len(in_dims)):
            raise ValueError(
                f"output_site is {output_site!r}, expected one of the {len(in_dims)} sites, "
                f"0 to {len(in_dims) - 1}"
            )
        super().__init__(in_dims)
        self.num_outputs, self.bond_dim, self.seed = num_outputs, bond_dim, seed
        self.output_site = output_site

    @property
    def center(self) -> int:
        """Site of the output index."""
        return len(self.in_dims) // 2 if self.output_site is None else self.output_site

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
    bond_dim : int or sequence of int
        Bond dimension of the readout MPS, at every cut or at each of the L - 1.
    seed : int
    bias : bool
        Whether to add trainable numbers to the outputs, which start at zero.
    output_site : int, optional
        Site of the output index, by default the middle one.

    Attributes
    ----------
    dense_error : DenseError or None
        After :meth:`from_dense`, the relative error of the weight; not saved.

    Notes
    -----
    The output is linear in the state, but for the bias, and is not truncated: both halves of the
    chain are contracted towards the middle site, in log scale.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((6, 64)), (4, 4, 4))
    >>> ftnn.Readout((4, 4, 4), num_outputs=10, bond_dim=5)(x).shape
    (6, 10)
    """

    in_dims: tuple[int, ...]
    dense_error: DenseError | None = None

    def __init__(
        self,
        in_dims: Sequence[int],
        num_outputs: int,
        bond_dim: MaxBond,
        seed: int = 0,
        bias: bool = False,
        output_site: int | None = None,
    ):
        super().__init__(in_dims, num_outputs, bond_dim, seed, output_site)
        if not isinstance(bias, bool):
            raise TypeError(f"bias is {bias!r}, expected True or False")
        self.bias = bias
        outs = _outs(self.in_dims, num_outputs, self.center)
        shapes = site_entries("weight", weight_shapes(self.in_dims, outs, self.bond_dim))
        self.declare(shapes | ({"bias": (num_outputs,)} if bias else {}), "bond_dim")
        # (left, out, in, right); out is 1 but on the middle site
        cores = initial_weight(self.in_dims, outs, self.bond_dim, seed)
        self.params |= site_entries("weight", cores)
        if bias:
            self.params["bias"] = np.zeros(num_outputs)

    @classmethod
    def from_dense(
        cls,
        linear: Any,
        in_dims: Sequence[int],
        bond_dim: int | None,
        moments: Array | None = None,
        mean: Array | None = None,
        seed: int = 0,
        bias: Array | None = None,
    ) -> "Readout":
        """Start a readout from a trained dense layer, as :meth:`ftnn.Linear.from_dense` does.

        Parameters
        ----------
        linear : torch.nn.Linear, Conv1D of transformers, or array (num_outputs, in)
        in_dims : sequence of int
            Their product is the number of inputs.
        bond_dim : int, optional
            None for an exact weight.
        moments, mean, bias : array, optional
            As of :meth:`ftnn.Linear.from_dense`. The bias is exact.
        seed : int

        Returns
        -------
        Readout
            On NumPy, in double precision.

        Raises
        ------
        TypeError, ValueError

        Examples
        --------
        >>> import numpy as np, ftnn
        >>> rng = np.random.default_rng(0)
        >>> W, b, x = (rng.standard_normal(shape) for shape in ((10, 64), 10, (5, 64)))
        >>> readout = ftnn.Readout.from_dense(W, (4, 4, 4), bond_dim=None, bias=b)
        >>> y = readout(ftnn.MPS.from_dense(x, (4, 4, 4)))
        >>> bool(np.allclose(y, x @ W.T + b))
        True
        """
        weight, vector = dense_arrays(linear, bias)
        dims = check_dims(in_dims, "in_dims")
        check_product(dims, weight.shape[1], "in_dims", "inputs")
        if bond_dim is not None:
            check_positive(bond_dim, "bond_dim")
        if vector is None:
            mean = None
        outs = _outs(dims, len(weight))
        metric = covariance(moments, mean)
        cores = operator_of(weight, outs, dims, bond_dim, metric)
        bond = max(MPO(cores).bond_dims, default=1)
        readout = cls(dims, len(weight), bond, seed, vector is not None)
        for k, (core, shape) in enumerate(zip(cores, weight_shapes(dims, outs, bond), strict=True)):
            extra = [(0, full - size) for full, size in zip(shape, core.shape, strict=True)]
            readout.params[f"weight.{k}"] = np.pad(core, extra)
        found = MPO(cores).to_dense()
        if vector is not None:
            readout.params["bias"] = corrected_bias(vector, weight - found, mean)
        readout.dense_error = DenseError(
            relative(found, weight), 0.0, output_error(found, weight, metric)
        )
        return readout

    def rescale(self, log_factor: float) -> None:
        """Multiply the outputs by ``exp(log_factor)``, the bias included."""
        super().rescale(log_factor)
        if self.bias:
            self.params["bias"] = self.params["bias"] * math.exp(log_factor)

    def dense_params(self) -> int:
        """Count the entries of the dense matrix and of the bias."""
        return self.num_outputs * (dims_product(self.in_dims) + self.bias)

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
        out, log_scale = do("reshape", new, (batch, -1)) @ w, log_scale + other_scale
        if not self.bias:
            return out, log_scale
        # the larger of the scales of both, of which the bias has that of ones
        top = do("maximum", log_scale, do("zeros_like", log_scale))
        shift = as_dtype_of(do("exp", -top), out)[:, None] * self.params["bias"]
        return out * as_dtype_of(do("exp", log_scale - top), out)[:, None] + shift, top


def _outs(in_dims: tuple[int, ...], num_outputs: int, center: int | None = None) -> tuple[int, ...]:
    """Return the outgoing dimensions of a readout, whose outputs are on one site, the middle one.

    The site may be another, ``center``.
    """
    center = len(in_dims) // 2 if center is None else center
    return tuple(num_outputs if k == center else 1 for k in range(len(in_dims)))


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
    bond_dim : int or sequence of int
        Bond dimension D of the operators, at every cut or at each of the L - 1.
    seed : int
    output_site : int, optional
        Site of the output index, by default the middle one.

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

    def __init__(
        self,
        in_dims: Sequence[int],
        num_outputs: int,
        bond_dim: MaxBond,
        seed: int = 0,
        output_site: int | None = None,
    ):
        super().__init__(in_dims, num_outputs, bond_dim, seed, output_site)
        rng = random_generator(seed, 3)
        bonds = weight_bonds(self.in_dims, self.in_dims, self.bond_dim)
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
