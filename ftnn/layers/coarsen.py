"""Coarsen: blocks of neighbouring sites become one site each."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from autoray import do

from ..arrays.backend import Array
from ..arrays.functions import log, peaks, permute, replace_zeros, stack, sum_over
from ..arrays.random import random_generator
from ..arrays.scales import spread
from ..chains.bonds import cut_bonds
from ..chains.dims import check_dims, check_positive
from ..chains.overlap import overlap
from ..chains.terms import Cores
from .initialization import semi_orthogonal
from .layer import Layer, collect, scale_evenly, site_entries


class Coarsen(Layer):
    r"""Map of every block of neighbouring sites to one site: a layer of a tree tensor network.

    With n blocks of s sites, :math:`y = (T_1 \otimes \dots \otimes T_n)\, x`, where

    .. math:: T_j[o; i_1 \dots i_s] = (V_{j1}^{i_1} V_{j2}^{i_2} \cdots V_{js}^{i_s})_{1o}

    is a matrix product whose last bond is the new physical index. The weight is stored as the cores
    of an MPO, of bond dimension 1 between blocks and with an outgoing index on the last site of
    each. The map is linear and exact: nothing is truncated, the bonds between the blocks are
    unchanged and those within vanish. A product state remains one.

    Parameters
    ----------
    in_dims : sequence of int
        Physical dimensions of the input.
    out_dims : sequence of int
        Physical dimensions of the output, one per block; their number divides that of
        ``in_dims``.
    bond_dim : int
        Bond dimension within the blocks.
    seed : int

    Notes
    -----
    *Motivation.* A truncated layer on a long chain of product states cannot preserve the
    entanglement it creates: with :math:`\chi = 2` on 49 patches of an image nearly everything is
    lost. On seven sites :math:`\chi = 4` is affordable, and every site represents a row of the
    image.

    *Cost.* :math:`L D p\,(D + \chi)\,\chi^2` per sample at bond dimension D of the weight and
    :math:`\chi` of the state, :math:`L D^2 p` for product states. Blocks whose arrays have the
    same shapes are contracted together.

    *Initialization.* Within a block, the identity on the bond for the constant channel plus
    Gaussian noise of weight :math:`\min(1, 2/s)`; the last core keeps the first bond channel as
    constant channel. Every block is scaled to :math:`\|T_j\|_F^2 = o_j`, which keeps the mean
    square entry of an isotropic input, evenly over its cores.

    Source: the isometries of tree tensor networks (Shi, Duan, Vidal, arXiv:quant-ph/0511070),
    without the isometric constraint and each a matrix product itself.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((6, 64)), (2,) * 6)
    >>> y = ftnn.Coarsen((2,) * 6, (5, 5), bond_dim=4)(x)
    >>> x.bond_dims, y.phys_dims, y.bond_dims
    ((2, 4, 8, 4, 2), (5, 5), (8,))
    """

    in_dims: tuple[int, ...]
    out_dims: tuple[int, ...]

    def __init__(
        self, in_dims: Sequence[int], out_dims: Sequence[int], bond_dim: int, seed: int = 0
    ):
        in_dims, out_dims = check_dims(in_dims, "in_dims"), check_dims(out_dims, "out_dims")
        if len(in_dims) % len(out_dims):
            raise ValueError(
                f"in_dims has {len(in_dims)} sites and out_dims {len(out_dims)}; the second must "
                "divide the first: every block has equally many sites"
            )
        check_positive(bond_dim, "bond_dim")
        super().__init__(in_dims, out_dims)
        self.bond_dim, self.seed = bond_dim, seed
        blocks = list(zip(self._blocks(in_dims), out_dims, strict=True))
        shapes = [shape for dims, out in blocks for shape in _weight_shapes(dims, out, bond_dim)]
        self.declare(site_entries("weight", shapes), "bond_dim")
        rng = random_generator(seed, 6)
        self.params |= site_entries(
            "weight", [core for dims, out in blocks for core in _weight(rng, dims, out, bond_dim)]
        )

    def _blocks(self, sites: tuple[Any, ...]) -> tuple[tuple[Any, ...], ...]:
        """Split a sequence with one entry per site into blocks."""
        size = len(self.in_dims) // len(self.out_dims)
        return tuple(sites[k : k + size] for k in range(0, len(sites), size))

    def operators(self) -> dict[str, Cores]:
        """Return the weight: an MPO with an outgoing index on the last site of every block."""
        return {"weight": collect(self.params, "weight")}

    def rescale(self, log_factor: float) -> None:
        """Multiply the weight by ``exp(log_factor)``."""
        scale_evenly(self.params, "weight", log_factor)

    def apply(self, cores: Cores) -> Cores:
        """Map cores ``(batch, left, in, right)`` to fewer ``(batch, left, out, right)``."""
        states, weights = self._blocks(cores), self._blocks(collect(self.params, "weight"))
        alike: dict[tuple[tuple[int, ...], ...], list[int]] = {}
        for j, block in enumerate(zip(states, weights, strict=True)):
            shapes = tuple(tuple(array.shape) for arrays in block for array in arrays)
            alike.setdefault(shapes, []).append(j)
        outputs: dict[int, Array] = {}
        log_scale, live = 0.0, True
        for members in alike.values():
            site_cores, site_weights = (
                [stack([side[j][k] for j in members], 0) for k in range(len(side[0]))]
                for side in (states, weights)
            )
            scaled, logs = zip(*map(_divide, site_cores), strict=True)
            log_scale = log_scale + sum(logs)
            out = _contract(scaled, site_weights)
            outputs |= {j: out[n] for n, j in enumerate(members)}
            live = live & do("all", _peaks(out) > 0, axis=0)
        log_scale = do("where", live, log_scale, do("zeros_like", log_scale))
        # a core of a block may be out of range though the whole vector is not
        return spread([outputs[j] for j in range(len(states))], log_scale)


def _divide(cores: Array) -> tuple[Array, Array]:
    """Divide cores (blocks, batch, left, in, right) by their largest entries.

    Returns
    -------
    cores : array (blocks, batch, left, in, right)
    log : array (batch,)
        Logarithm of the product of what the cores of a sample were divided by.
    """
    top = replace_zeros(_peaks(cores))
    return cores / top[:, :, None, None, None], sum_over(log(top), (0,))


def _peaks(cores: Array) -> Array:
    """Return the largest modulus (blocks, batch) in each of cores (blocks, batch, ...)."""
    return do("reshape", peaks(do("reshape", cores, (-1, *cores.shape[2:]))), cores.shape[:2])


def _contract(cores: Sequence[Array], weights: Sequence[Array]) -> Array:
    """Contract states with weights, site by site from the left.

    Parameters
    ----------
    cores : sequence of array (blocks, batch, left, in, right)
    weights : sequence of array (blocks, left, out, in, right)
        ``out`` is 1 but on the last site, ``right`` is 1 there.

    Returns
    -------
    array (blocks, batch, left, out, right)
    """
    blocks, batch, left, p, right = cores[0].shape
    first, *rest = (_as_matrices(weight) for weight in weights)
    env = do("reshape", permute(cores[0], 0, 1, 2, 4, 3), (blocks, -1, p)) @ first
    for x, weight in zip(cores[1:], rest, strict=True):
        _, _, a, p, right = x.shape
        w = env.shape[2]
        if a == 1:  # a product state: an outer product is no work for a matmul
            new = do("reshape", env, (blocks, batch, left, 1, w, 1))
            new = new * do("reshape", permute(x, 0, 1, 2, 4, 3), (blocks, batch, 1, right, 1, p))
        else:
            new = permute(do("reshape", env, (blocks, batch, left, a, w)), 0, 1, 2, 4, 3)
            new = do("reshape", new, (blocks, batch, left * w, a))
            new = new @ do("reshape", x, (blocks, batch, a, p * right))
            new = do("reshape", new, (blocks, batch, left, w, p, right))
            new = permute(new, 0, 1, 2, 5, 3, 4)  # (blocks, batch, left, right, w, in)
        env = do("reshape", new, (blocks, -1, w * p)) @ weight
    env = do("reshape", env, (blocks, batch, left, right, -1))
    return permute(env, 0, 1, 2, 4, 3)


def _as_matrices(weight: Array) -> Array:
    """Reshape cores (blocks, left, out, in, right) of a site to (blocks, left*in, out*right)."""
    blocks, left, _, inn, _ = weight.shape
    return do("reshape", permute(weight, 0, 1, 3, 2, 4), (blocks, left * inn, -1))


def _weight_shapes(dims: tuple[int, ...], out: int, bond_dim: int) -> list[tuple[int, ...]]:
    """Return the shapes (left, out, in, right) of :func:`_weight`."""
    bonds = _bonds(dims, out, bond_dim)
    shapes: list[tuple[int, ...]] = [
        (left, 1, p, right) for p, left, right in zip(dims, bonds, bonds[1:], strict=False)
    ]
    shapes[-1] = (bonds[-2], out, dims[-1], 1)
    return shapes


def _bonds(dims: tuple[int, ...], out: int, bond_dim: int) -> tuple[int, ...]:
    """Return the bonds of a block, the last of which is the new physical index."""
    return (*cut_bonds((*dims[:-1], dims[-1] * out), bond_dim)[:-1], out)


def _weight(
    rng: np.random.Generator, dims: tuple[int, ...], out: int, bond_dim: int
) -> list[np.ndarray]:
    """Draw the MPO cores (left, out, in, right) of one block."""
    size = len(dims)
    noise, cores, bonds = min(1.0, 2.0 / size), [], _bonds(dims, out, bond_dim)
    for k, (p, (left, right)) in enumerate(zip(dims, pairwise(bonds), strict=True)):
        core = noise * rng.standard_normal((left, p, right)) / np.sqrt(p * right)
        core[:, 0] += semi_orthogonal(rng, right, left).T if k == size - 1 else np.eye(left, right)
        cores.append(core)
    closed = [core[None] for core in cores]
    closed[-1] = cores[-1].reshape(1, cores[-1].shape[0], -1, 1)
    value, log_scale = overlap(tuple(closed), tuple(closed))
    scaled = spread(closed, 0.5 * (np.log(out) - np.log(value) - log_scale))
    cores = [s.reshape(c.shape)[:, None] for s, c in zip(scaled, cores, strict=True)]
    cores[-1] = cores[-1].transpose(0, 3, 2, 1)  # the last bond is the new physical index
    return cores
