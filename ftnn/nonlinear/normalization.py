"""Normalization of whole vectors, by contraction, and of single cores."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from autoray import do

from ..arrays.backend import Array, as_dtype_of, eps, is_complex, tiny
from ..arrays.functions import at_most, concat, log, stop_gradient, sum_over
from ..arrays.random import draw_arrays, random_generator
from ..arrays.scales import spread
from ..chains.bonds import MaxBond, check_bonds, output_bonds
from ..chains.dims import check_dims, check_positive
from ..chains.magnitude import divide_state
from ..chains.overlap import overlap
from ..chains.terms import Cores, Hadamard, State, Term
from ..layers.initialization import sketch_of_layer, sketch_rows, sketch_shapes
from ..layers.layer import Layer, collect, site_entries
from ..truncation.src import compress_src
from .functions import check_mean_dims, counts_of, scaled_entries


class RMSNorm(Layer):
    r"""Normalization of every vector by its root mean square entry.

    :math:`y = x / \sqrt{\mathrm{mean}|x|^2 + \epsilon}`, with the mean over all
    ``prod(phys_dims)`` entries computed exactly, by contraction. Equals
    :func:`torch.nn.functional.rms_norm` of the dense vector, without forming it.

    Parameters
    ----------
    eps : float
        Added to the mean square. Zero by default: the mean square entry of a long chain is
        legitimately as small as 0.4**100, far below any fixed eps. A zero vector stays
        zero in any case, with zero gradient.
    phys_dims : sequence of int, optional
        If given, the layer has a trainable gain, a product state that starts at ones and
        multiplies the result entry by entry.
    mean_dims : sequence of int, optional
        Number of channels of every site that the mean is taken over, by default all;
        :func:`ftnn.growth.widen` keeps the old ones.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS.from_dense(np.array([[3.0, 4.0, 0.0, 0.0]]), (2, 2))
    >>> print(ftnn.nonlinear.RMSNorm()(x).to_dense().round(6))
    [[1.2 1.6 0.  0. ]]
    """

    def __init__(
        self,
        eps: float = 0.0,
        phys_dims: Sequence[int] | None = None,
        mean_dims: Sequence[int] | None = None,
    ):
        _check_eps(eps)
        dims = None if phys_dims is None else check_dims(phys_dims, "phys_dims")
        super().__init__(dims, dims)
        self.eps, self.phys_dims = eps, dims
        self.mean_dims = check_mean_dims(mean_dims, dims)
        self.declare(site_entries("gain", [(1, 1, p, 1) for p in dims or ()]), "phys_dims")
        self.params |= site_entries("gain", [np.ones((1, 1, p, 1)) for p in dims or ()])

    def apply(self, cores: Cores) -> Cores:
        """Map cores ``(batch, left, phys, right)`` to cores of the same shape."""
        out, _ = unit_rms(cores, self.eps, self.mean_dims)
        if self.params:
            out = tuple(c * g for c, g in zip(out, collect(self.params, "gain"), strict=True))
        return out


class LayerNorm(Layer):
    r"""Normalization of every vector to mean 0 and deviation 1, followed by gain and shift.

    .. math:: y = g \circ \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + b, \qquad
              \mu = \mathrm{mean}\, x, \quad \sigma^2 = \mathrm{mean}\,|x - \mu|^2,

    with the means over all ``prod(phys_dims)`` entries computed exactly, by contraction. Equals
    :func:`torch.nn.functional.layer_norm` of the dense vector if ``max_bond`` is large enough.

    Parameters
    ----------
    phys_dims : sequence of int
    max_bond : int or sequence of int, optional
        Bond dimension of the output. By default nothing is truncated: it is that of the input,
        times ``bond_dim``, plus ``2 * bond_dim`` (without ``affine`` plus 1), capped at what the
        dimensions allow.
    bond_dim : int
        Bond dimension of the trainable gain g and shift b, which start at ones and zeros.
    eps : float
        Added to the variance. Zero by default, see :class:`RMSNorm`; a constant vector, of
        variance zero to rounding, then gives the shift, with zero gradient.
    affine : bool
        Whether to have a gain and a shift.
    seed : int
        Seed of gain, shift and test matrices.
    mean_dims : sequence of int, optional
        Numbers n of channels of every site that means are taken over, by default all: the mean is
        that of the block of the first n, from which alone it is subtracted. Where the rest is zero
        the layer is that of the block; :func:`ftnn.growth.widen` keeps the old numbers.

    Notes
    -----
    With z = x / rms(x), :math:`\sigma^2 = \mathrm{rms}^2\,(1 - |\mathrm{mean}\,z|^2)`. The bracket
    is negative only by rounding; it is treated as zero below ``8 L`` times the rounding of the
    dtype.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS.from_dense(np.array([[1.0, 2.0, 3.0, 4.0]]), (2, 2))
    >>> print(ftnn.nonlinear.LayerNorm((2, 2))(x).to_dense().round(4))
    [[-1.3416 -0.4472  0.4472  1.3416]]
    """

    in_dims: tuple[int, ...]
    recomputes_itself = True

    def __init__(
        self,
        phys_dims: Sequence[int],
        max_bond: MaxBond | None = None,
        bond_dim: int = 1,
        eps: float = 0.0,
        affine: bool = True,
        seed: int = 0,
        mean_dims: Sequence[int] | None = None,
    ):
        dims = check_dims(phys_dims, "phys_dims")
        if max_bond is not None:
            max_bond = check_bonds(max_bond, len(dims))
        check_positive(bond_dim, "bond_dim")
        _check_eps(eps)
        if not affine and bond_dim != 1:
            raise ValueError(f"bond_dim is {bond_dim} of a gain and a shift, but affine=False")
        super().__init__(dims, dims)
        self.phys_dims, self.max_bond, self.bond_dim = dims, max_bond, bond_dim
        self.eps, self.affine, self.seed = eps, affine, seed
        self.mean_dims = check_mean_dims(mean_dims, dims)
        shapes = _constant_shapes(dims, bond_dim)
        self.declare(
            (site_entries("gain", shapes) | site_entries("shift", shapes) if affine else {})
            | ({} if max_bond is None else site_entries("omega", sketch_shapes(dims, max_bond))),
            "bond_dim or max_bond",
        )
        if affine:
            for name, first in (("gain", 1.0), ("shift", 0.0)):
                cores = _constant(dims, bond_dim, first, seed + (name == "shift"))
                self.params |= site_entries(name, cores)
        if max_bond is not None:
            self.buffers |= site_entries("omega", sketch_of_layer(dims, seed, max_bond))

    def apply(self, cores: Cores) -> Cores:
        """Map cores ``(batch, left, phys, right)`` to cores of the same physical dimensions."""
        terms, omegas = self.terms(cores), collect(self.buffers, "omega")
        if self.max_bond is None:
            size = max(output_bonds(terms, None))
            omegas = draw_arrays(sketch_rows, size, self.seed, *self.phys_dims, like=cores[0])
        return compress_src(terms, omegas, self.max_bond)

    def terms(self, cores: Cores) -> tuple[Term, ...]:
        """Return the exact output, before truncation."""
        # the logarithms of cores of very different sizes would leave their rounding in the mean
        balanced, own, _ = divide_state(cores)
        z, log_rms = unit_rms(balanced, 0.0, self.mean_dims)
        log_rms = log_rms + own
        counts = self.mean_dims or self.in_dims
        ones = _first_channels(self.in_dims, counts, cores[0])
        value, log_scale = overlap(ones, z)
        entries = sum(math.log(n) for n in counts)
        # the modulus of the mean of z is at most 1: its logarithm is larger only where it is zero
        log_scale = at_most(log_scale - entries, -math.log(tiny(value)))
        mean = value * as_dtype_of(do("exp", log_scale), value)  # (batch,)
        square = do("real", mean * do("conj", mean)) if is_complex(mean) else mean * mean
        variance = 1.0 - square
        # that of a single entry is zero, whatever is left of it
        live = variance > (8.0 * len(cores) * eps(cores[0]) if entries else 2.0)
        variance = do("where", live, variance, do("ones_like", variance))
        if self.eps > 0.0:
            # eps / rms^2; a vector so small that it overflows is negligible next to eps
            exponent = math.log(self.eps) - 2.0 * log_rms
            exponent = do("where", exponent < 80.0, exponent, 80.0 * do("ones_like", exponent))
            variance = variance + as_dtype_of(do("exp", exponent), variance)
        none = do("zeros_like", variance)
        scale = as_dtype_of(do("where", live, 1.0 / do("sqrt", variance), none), value)
        if not self.affine:
            return (Term(State(z), scale), Term(State(ones), -mean * scale))
        gain, shift = collect(self.params, "gain"), collect(self.params, "shift")
        if self.bond_dim == 1:
            product: State | Hadamard = State(tuple(c * g for c, g in zip(z, gain, strict=True)))
        else:
            product = Hadamard(State(gain), State(z))
        if self.mean_dims is not None:
            gain = tuple(g * one for g, one in zip(gain, ones, strict=True))
        return (
            Term(product, scale),
            Term(State(gain), -mean * scale),
            Term(State(shift)),
        )


class CoreNorm(Layer):
    r"""Normalization of every core to mean square ``scale**2`` per physical entry.

    The product of the divisors of the cores is one number per sample, kept in log scale. It is put
    back, spread evenly over the cores; or dropped; or put back relative to its running mean over
    batches, as in batch normalization.

    Parameters
    ----------
    scale : float
    product : {"keep", "drop", "running"}
        "keep": the vector is only multiplied by ``scale**L``. "drop": every sample gets cores of
        the same norms, regardless of its own norm. "running": samples keep their norms relative to
        each other, and their geometric mean is one: over the batch in training, over the batches
        seen in evaluation.
    momentum : float, optional
        Weight of a new batch in the running mean, by default 0.1; the first 1/momentum batches
        count alike. Applies to "running" only.
    mean_dims : sequence of int, optional
        Number of channels of every site that the mean square is taken over, by default all.

    Notes
    -----
    As a map of vectors, "keep" does not depend on the gauge of the input; the others do. It is
    meant for functions that do not scale their input themselves, such as ``Pointwise(fn,
    normalize=False)``.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS([np.full((1, 1, 4, 1), 3.0), np.full((1, 1, 2, 1), 0.1)])
    >>> [float(c.max().round(6)) for c in ftnn.nonlinear.CoreNorm(product="drop")(x).cores]
    [1.0, 1.0]
    """

    def __init__(
        self,
        scale: float = 1.0,
        product: str = "keep",
        momentum: float | None = None,
        mean_dims: Sequence[int] | None = None,
    ):
        if not (scale > 0.0 and math.isfinite(scale)):
            raise ValueError(f"scale is {scale!r}, expected a positive number")
        if product not in ("keep", "drop", "running"):
            raise ValueError(f"product is {product!r}; choose keep, drop or running")
        if momentum is None and product == "running":
            momentum = 0.1
        elif momentum is not None and product != "running":
            raise ValueError(f"momentum is {momentum!r}, but only product 'running' has a mean")
        if momentum is not None and not 0.0 < momentum <= 1.0:
            raise ValueError(f"momentum is {momentum!r}, expected a number in (0, 1]")
        super().__init__()
        self.scale, self.product, self.momentum = scale, product, momentum
        self.mean_dims = check_mean_dims(mean_dims)
        if product == "running":
            self.buffers |= {"log_product": np.zeros(1), "batches": np.zeros(1)}

    def apply(self, cores: Cores) -> Cores:
        """Map cores ``(batch, left, phys, right)`` to cores of the same shape."""
        counts = counts_of(cores, self.mean_dims)
        parts = [scaled_entries(core, n) for core, n in zip(cores, counts, strict=True)]
        out = [u * self.scale for u, _ in parts]
        if self.product == "drop":
            return tuple(out)
        total = sum(log(norm[:, 0, 0, 0]) for _, norm in parts)  # (batch,)
        if self.product == "running":
            total = total - self._typical(total)
        return spread(out, total)

    def _typical(self, total: Array) -> Array:
        """Return the batch mean and update the running mean; in evaluation, return the latter."""
        assert self.momentum is not None
        running, batches = self.buffers["log_product"], self.buffers["batches"]
        if not self.training:
            return as_dtype_of(running, total)
        mean = sum_over(total, (0,)) / total.shape[0]
        share = 1.0 / (batches + 1.0)
        share = do("where", share > self.momentum, share, self.momentum * do("ones_like", share))
        new = as_dtype_of(stop_gradient(mean), running)
        self.buffers["log_product"] = running + share * (new - running)
        self.buffers["batches"] = batches + 1.0
        return mean


def unit_rms(
    cores: Cores, eps: float = 0.0, mean_dims: tuple[int, ...] | None = None
) -> tuple[Cores, Array]:
    """Divide every vector by the root of its mean square entry plus eps.

    The mean is over all entries, or over as many as there are in a block of ``mean_dims``.

    Returns
    -------
    cores : tuple of array (batch, left, phys, right)
        A zero vector stays zero, with zero gradient.
    log_rms : array (batch,)
        Logarithm of the divisor; 0 for a zero vector.
    """
    value, log_scale = overlap(cores, cores)  # value * exp(log_scale) = sum of squares
    value = do("real", value) if is_complex(value) else value
    log_scale = log_scale - sum(math.log(n) for n in counts_of(cores, mean_dims))
    live = value > 0.0
    value = do("where", live, value, do("ones_like", value))
    if eps == 0.0:
        log_mean = log_scale + do("log", value)
    else:
        # log(mean + eps) = peak + log(value e^(log_scale - peak) + eps e^(-peak)); with the
        # peak at the larger of the two exponents nothing overflows, however long the chain is
        log_eps = math.log(eps)
        floor = do("zeros_like", log_scale) + log_eps
        peak = do("where", log_scale > log_eps, log_scale, floor)
        total = value * do("exp", log_scale - peak) + do("exp", floor - peak)
        log_mean = peak + do("log", total)
    log_rms = do("where", live, 0.5 * log_mean, do("zeros_like", log_mean))
    return spread(list(cores), -log_rms), log_rms


def _first_channels(dims: tuple[int, ...], counts: tuple[int, ...], like: Array) -> Cores:
    """Return the vector (1, 1, phys, 1) that is one in the block of the first channels."""
    cores = []
    for p, n in zip(dims, counts, strict=True):
        core = do("ones", (1, 1, n, 1), like=like)
        if n < p:
            core = concat((core, do("zeros", (1, 1, p - n, 1), like=like)), 2)
        cores.append(core)
    return tuple(cores)


def _constant_shapes(dims: tuple[int, ...], bond_dim: int) -> list[tuple[int, ...]]:
    """Return the shapes (1, left, phys, right) of :func:`_constant`."""
    bonds = [1, *[bond_dim] * (len(dims) - 1), 1]
    return [(1, left, p, right) for p, (left, right) in zip(dims, pairwise(bonds), strict=True)]


def _constant(dims: tuple[int, ...], bond_dim: int, value: float, seed: int) -> list[np.ndarray]:
    """Return cores (1, left, phys, right) of a constant vector all of whose entries are trainable.

    Bond channel 0 carries the constant. The others are random, and end in zeros: no path returns
    from them to channel 0.
    """
    rng = random_generator(seed, 4)
    cores = []
    for shape in _constant_shapes(dims, bond_dim):
        core = rng.standard_normal(shape) / max(1, bond_dim) ** 0.5
        core[:, 0, :, 0] = 1.0
        core[:, 1:, :, 0] = 0.0
        cores.append(core)
    cores[-1][:, 0] = value
    return cores


def _check_eps(eps: float) -> None:
    if not eps >= 0.0:
        raise ValueError(f"eps is {eps!r}, expected a number >= 0")
