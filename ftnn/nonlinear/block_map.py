"""BlockMap: blocks of a grid of sites become one site each, by one shared matrix product."""

from collections.abc import Sequence

import numpy as np
from autoray import do

from ..arrays.backend import Array
from ..arrays.functions import concat, log, permute, replace_zeros, stop_gradient, sum_over
from ..arrays.random import random_generator
from ..arrays.scales import spread
from ..chains.dims import check_dims, check_positive
from ..chains.terms import Cores
from ..layers.initialization import semi_orthogonal
from ..layers.layer import Layer
from .feature_map import check_channels, coordinates, site_vectors
from .product_map import scaled


class BlockMap(Layer):
    r"""Map of every block of sites of a grid to one site, with the same weights for all blocks.

    The vectors :math:`a_k\,(1, \xi_k)` of a block with sites 1 to s become
    :math:`a_1 \cdots a_s\,(1, \varphi)`,

    .. math:: \varphi_o = \sum_{i_1 \dots i_s} (V_1^{i_1} V_2^{i_2} \cdots V_s^{i_s})_{1o}\,
              (1, \zeta_1)_{i_1} \cdots (1, \zeta_s)_{i_s},

    where :math:`\zeta_k` is :math:`\xi_k` at a root mean square of 1. Without scaling it is
    a linear map of the state: :class:`ftnn.Coarsen` of blocks in two dimensions, with shared
    weights and one row of them fixed.

    Parameters
    ----------
    phys_dims : sequence of int
        Physical dimensions of the input, at least 2 and all equal.
    out_dim : int
        Physical dimension of every site of the output, at least 2.
    bond_dim : int
        Bond dimension within the blocks.
    grid : (rows, columns)
        Arrangement of the sites of the input, row by row. Those of the output stand likewise.
    block : (rows, columns)
        Size of a block, which divides the grid.
    normalize : bool
        Whether to scale the coordinates; otherwise :math:`\zeta_k = \xi_k`.
    seed : int

    Notes
    -----
    *Exact.* A product state remains one, and as for :class:`ftnn.nonlinear.FeatureMap` the output
    is a function of the state, homogeneous of degree 1.

    *Initialization.* The identity on the bond for the constant channel, plus Gaussian noise, as
    for :class:`ftnn.Coarsen`, without a scale of its own.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> from ftnn.encoding import ProductEncoder
    >>> images = np.random.default_rng(0).random((6, 8, 8))
    >>> x = ProductEncoder((8, 8), patch=(2, 2), order="row-major").fit(images)(images)
    >>> y = ftnn.nonlinear.BlockMap(x.phys_dims, 7, bond_dim=4, grid=(4, 4), block=(2, 2))(x)
    >>> y.phys_dims, y.bond_dims
    ((7, 7, 7, 7), (1, 1, 1))
    """

    in_dims: tuple[int, ...]
    out_dims: tuple[int, ...]

    def __init__(
        self,
        phys_dims: Sequence[int],
        out_dim: int,
        bond_dim: int,
        grid: Sequence[int],
        block: Sequence[int] = (2, 2),
        normalize: bool = True,
        seed: int = 0,
    ):
        phys_dims = check_dims(phys_dims, "phys_dims")
        check_channels(phys_dims, "phys_dims")
        check_positive(out_dim, "out_dim")
        check_positive(bond_dim, "bond_dim")
        if out_dim < 2:
            raise ValueError(
                f"out_dim is {out_dim}, expected at least 2: the constant channel and one more"
            )
        grid, block = check_dims(grid, "grid"), check_dims(block, "block")
        if len(grid) != 2 or grid[0] * grid[1] != len(phys_dims):
            raise ValueError(
                f"grid is {grid}, expected (rows, columns) whose product is {len(phys_dims)}, the "
                "number of sites"
            )
        if len(block) != 2 or grid[0] % block[0] or grid[1] % block[1]:
            raise ValueError(
                f"block is {block}, expected (rows, columns) that divide those of the grid, {grid}"
            )
        blocks = (grid[0] // block[0]) * (grid[1] // block[1])
        super().__init__(phys_dims, (out_dim,) * blocks)
        self.phys_dims, self.out_dim, self.bond_dim = phys_dims, out_dim, bond_dim
        self.grid, self.block, self.normalize, self.seed = grid, block, normalize, seed
        p, size = phys_dims[0], block[0] * block[1]
        bonds = (1, *(bond_dim,) * (size - 1), out_dim - 1)
        shapes = {f"weight.{k}": (bonds[k], p, bonds[k + 1]) for k in range(size)}
        self.declare(shapes, "bond_dim")
        rng, noise = random_generator(seed, 8), min(1.0, 2.0 / size)
        for k, (name, (left, _, right)) in enumerate(shapes.items()):
            core = noise * rng.standard_normal((left, p, right)) / np.sqrt(p * right)
            last = k == size - 1
            core[:, 0] += semi_orthogonal(rng, right, left).T if last else np.eye(left, right)
            self.params[name] = core

    def apply(self, cores: Cores) -> Cores:
        """Map cores ``(batch, 1, phys, 1)`` to fewer ``(batch, 1, out, 1)``."""
        x = site_vectors(cores, "BlockMap", "ftnn.Coarsen takes any")  # (sites, batch, phys)
        constant, xi = coordinates(x)
        zeta = scaled(xi) if self.normalize else xi
        x = self._by_blocks(concat((do("ones_like", constant), zeta), 2))
        constant = self._by_blocks(constant)  # (sites of a block, blocks, batch, 1)
        size = do("abs", stop_gradient(constant))
        live, size = do("all", size > 0, axis=(0, 1, 3)), replace_zeros(size)
        constant = constant / size
        env, factor = x[0] @ self.params["weight.0"][0], constant[0]  # (blocks, batch, right)
        for k in range(1, len(x)):
            env, factor = self._contract(env, x[k], k), factor * constant[k]
        y = factor * concat((do("ones_like", factor), env), 2)
        log_scale = sum_over(log(size), (0, 1, 3))
        log_scale = do("where", live, log_scale, do("zeros_like", log_scale))
        # the product of a block may be out of range though the whole vector is not
        return spread([y[k][:, None, :, None] for k in range(len(y))], log_scale)

    def _contract(self, env: Array, x: Array, k: int) -> Array:
        """Take site k, vectors (blocks, batch, phys), into the product of those before it."""
        outer = env[:, :, :, None] * x[:, :, None, :]  # (blocks, batch, left, phys)
        weight = self.params[f"weight.{k}"]
        outer = do("reshape", outer, (*env.shape[:2], -1))
        return outer @ do("reshape", weight, (-1, weight.shape[2]))

    def _by_blocks(self, x: Array) -> Array:
        """Rearrange (sites, batch, n) to (sites of a block, blocks, batch, n)."""
        (rows, columns), (height, width), rest = self.grid, self.block, tuple(x.shape[1:])
        shape = (rows // height, height, columns // width, width, *rest)
        x = permute(do("reshape", x, shape), 1, 3, 0, 2, 4, 5)
        return do("reshape", x, (height * width, -1, *rest))
