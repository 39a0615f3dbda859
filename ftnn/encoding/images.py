"""Images to MPS: amplitude encodings by TT-SVD and product feature maps.

An encoder is fitted once, to training images, and is saved with the model. Both encoders support
the site orders: ``"row-major"``, ``"snake"`` (every other row reversed, so that neighbouring sites
are neighbouring pixels) and ``"quantics"`` (Morton: coarse to fine, a 2 x 2 block at a time).
Images are greyscale, ``(n, height, width)``, or have channels last, ``(n, height, width,
channels)``, as Pillow and matplotlib read them.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from ..arrays.backend import check_finite, check_floating
from ..arrays.functions import dims_product
from ..chains.bonds import MaxBond, check_rank
from ..chains.dims import check_dims, check_order
from ..chains.states import MPS
from ..chains.terms import Cores
from ..chains.tt_svd import tt_svd
from .encoder import Encoder, core_arrays, site_vectors
from .order import site_order

STANDARDIZATIONS = ("none", "global", "pixel")
FEATURES = ("linear", "trig")


class ImageEncoder(Encoder):
    """Base of the image encoders: standardization and checks.

    Attributes
    ----------
    image_shape : tuple of int
        (height, width) or (height, width, channels).
    buffers : dict of str to numpy.ndarray
        Mean and scale of the training images, of shape ``image_shape``.
    """

    def __init__(self, image_shape: Sequence[int], standardize: str):
        super().__init__()
        self.image_shape = check_dims(image_shape, "image_shape")
        if len(self.image_shape) not in (2, 3):
            raise ValueError(
                f"image_shape is {self.image_shape}, expected (height, width) or (height, width, "
                "channels)"
            )
        if standardize not in STANDARDIZATIONS:
            raise ValueError(
                f"standardize is {standardize!r}; choose one of {', '.join(STANDARDIZATIONS)}"
            )
        self.standardize = standardize
        self.buffers = {"mean": np.zeros(self.image_shape), "scale": np.ones(self.image_shape)}

    @property
    def channels(self) -> int:
        """Channels of a pixel; 1 for greyscale images."""
        return self.image_shape[2] if len(self.image_shape) == 3 else 1

    def fit(self, data: Any) -> Self:
        """Fit mean and scale to training images (unused for standardize="none").

        Parameters
        ----------
        data : array (n, height, width) or (n, height, width, channels)
            Training images only: validation and test images must not leak in here. "global" uses
            one mean and one scale per channel.

        Returns
        -------
        Encoder
            This encoder.
        """
        images = self.check(data, "images").astype(np.float64)
        if self.standardize == "global":
            axes = (0, 1, 2)  # of every channel
            mean, deviation = images.mean(axis=axes), images.std(axis=axes)
            self.buffers["mean"] = np.broadcast_to(mean, self.image_shape).copy()
            scale = 1.0 / np.maximum(deviation, 1e-12)
            self.buffers["scale"] = np.broadcast_to(scale, self.image_shape).copy()
        elif self.standardize == "pixel":
            # avoid blowing up pixels that hardly vary: add a tenth of the typical spread
            deviation = images.std(axis=0)
            floor = 0.1 * np.sqrt(np.mean(deviation**2)) + 1e-12
            self.buffers["mean"] = images.mean(axis=0)
            self.buffers["scale"] = 1.0 / (deviation + floor)
        return self

    def check(self, data: Any, argument: str = "images") -> np.ndarray:
        """Return images as an array, or raise ``TypeError`` or ``ValueError``."""
        check_floating(data, argument)
        images = np.asarray(data)
        if images.ndim == 0 or len(images) == 0 or images.shape[1:] != self.image_shape:
            raise ValueError(
                f"{argument} has shape {images.shape}, expected (batch, "
                f"{', '.join(map(str, self.image_shape))}) with at least one image"
            )
        check_finite(images, argument)
        return images

    def _standardized(self, data: Any) -> np.ndarray:
        """Return standardized images (n, height, width, channels), in their dtype."""
        images = self.check(data)
        mean, scale = (self.buffers[key].astype(images.dtype) for key in ("mean", "scale"))
        return ((images - mean) * scale).reshape(*images.shape[:3], self.channels)

    def _original(self, images: np.ndarray) -> np.ndarray:
        """Invert :meth:`_standardized`."""
        images = images.reshape(len(images), *self.image_shape)
        return images / self.buffers["scale"] + self.buffers["mean"]


class AmplitudeEncoder(ImageEncoder):
    """Encoder of images as dense vectors, by batched TT-SVD.

    Parameters
    ----------
    image_shape : (height, width) or (height, width, channels)
    order : {"quantics", "row-major", "snake"}
        For "quantics" the image is padded with zeros on all sides to a square whose side is a
        power of two, and each site is a 2 x 2 block at one scale, coarse to fine.
    dims : sequence of int, optional
        Physical dimensions; by default (4, 4, ...) for "quantics" and the prime factors of
        height and width otherwise. The channels are the fastest index: by default they form a last
        site of their own.
    max_bond : int, optional
    rtol : float
        Relative error allowed for each image.
    standardize : {"none", "global", "pixel"}
    chain : sequence of int, optional
        The sites of ``dims`` along the chain, each once; by default as they are.
        :func:`ftnn.structure.site_order` finds an order.

    Examples
    --------
    >>> import numpy as np
    >>> encoder = AmplitudeEncoder((28, 28), max_bond=8)
    >>> x = encoder(np.random.default_rng(0).random((2, 28, 28)))
    >>> x.phys_dims, x.bond_dims
    ((4, 4, 4, 4, 4), (4, 8, 8, 4))
    >>> colour = AmplitudeEncoder((32, 32, 3))
    >>> images = np.random.default_rng(0).random((2, 32, 32, 3))
    >>> colour.phys_dims, bool(np.allclose(colour.reconstruct(colour(images)), images))
    ((4, 4, 4, 4, 4, 3), True)
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        order: str = "quantics",
        dims: Sequence[int] | None = None,
        max_bond: MaxBond | None = None,
        rtol: float = 0.0,
        standardize: str = "none",
        chain: Sequence[int] | None = None,
    ):
        super().__init__(image_shape, standardize)
        height, width = self.image_shape[:2]
        if order == "quantics":
            side = 1 << (max(height, width) - 1).bit_length()
            self.padded = (side, side)
        else:
            self.padded = (height, width)
        self.order, self.rtol = order, rtol
        self._index = site_order(*self.padded, order)
        if dims is None:
            sides = self.padded
            dims = (
                [4] * (sides[0].bit_length() - 1)
                if order == "quantics" and sides[0] > 1
                else [f for side in sides for f in _prime_factors(side)] or [1]
            ) + [self.channels] * (self.channels > 1)
        self.dims = check_dims(dims, "dims")
        self.chain = None if chain is None else tuple(map(int, check_order(chain, len(dims))))
        self.phys_dims = tuple(self.dims[k] for k in self.chain or range(len(dims)))
        self.max_bond = check_rank(max_bond, rtol, len(self.phys_dims))
        entries = len(self._index) * self.channels
        if dims_product(self.phys_dims) != entries:
            raise ValueError(
                f"dims {self.phys_dims} multiply to {dims_product(self.phys_dims)}, but the "
                f"image has {entries} {'pixels' if self.channels == 1 else 'entries'} in order "
                f"{order!r}"
            )

    def encode(self, data: Any) -> Cores:
        """Map images to cores (n, left, phys, right), in their dtype, on NumPy."""
        images = self._standardized(data)
        flat = np.pad(images, ((0, 0), *self._margins(), (0, 0)))
        flat = flat.reshape(len(images), -1, self.channels)[:, self._index]
        dense = flat.reshape(len(images), *self.dims)
        if self.chain is not None:
            dense = dense.transpose(0, *(k + 1 for k in self.chain))
        return tt_svd(dense.reshape(len(images), -1), self.phys_dims, self.max_bond, self.rtol)

    def reconstruct(self, x: MPS | Cores) -> np.ndarray:
        """Return the images (n, height, width[, channels]) whose amplitudes the states are."""
        dense = MPS(core_arrays(x)).to_dense()  # (n, pixels * channels)
        if self.chain is not None:
            back = np.argsort(self.chain) + 1
            dense = dense.reshape(len(dense), *self.phys_dims).transpose(0, *back)
        images = np.empty((len(dense), len(self._index), self.channels), dense.dtype)
        images[:, self._index] = dense.reshape(images.shape)
        (top, _), (left, _) = self._margins()
        height, width = self.image_shape[:2]
        images = images.reshape(len(dense), *self.padded, self.channels)
        return self._original(images[:, top : top + height, left : left + width])

    def _margins(self) -> list[tuple[int, int]]:
        """Return the zero rows and columns before and after: mirrored images stay mirrored."""
        more = [p - side for p, side in zip(self.padded, self.image_shape, strict=False)]
        return [(m // 2, m - m // 2) for m in more]


class ProductEncoder(ImageEncoder):
    r"""Encoder of images as product states: a small vector for every pixel or patch, bond 1.

    ``features="linear"``: :math:`(1, \phi)` with :math:`\phi` the standardized pixels of the
    patch (all their channels) times ``scale / sqrt(entries)``. The constant channel prevents the
    overlap of long chains from decaying; :math:`\phi` should be small for many sites.
    ``features="trig"``: :math:`(\cos\tfrac{\pi}{2}x, \sin\tfrac{\pi}{2}x)` of one pixel
    (Stoudenmire, Schwab, arXiv:1605.05775, equation 3).

    Parameters
    ----------
    image_shape : (height, width) or (height, width, channels)
    patch : (height, width)
        The sites are the patches.
    stride : (height, width), optional
        Step from one patch to the next; by default the patch size, so that patches tile the image.
        A smaller stride makes patches overlap. The last patch must end at the edge of the image.
    order : {"snake", "row-major", "quantics"}
        Order of the patches along the chain.
    features : {"linear", "trig"}
    scale : float
        Size of the features relative to the constant channel ("linear").
    standardize : {"pixel", "global", "none"}
        "trig" requires "none".

    Examples
    --------
    >>> import numpy as np
    >>> encoder = ProductEncoder((28, 28), patch=(7, 7))
    >>> x = encoder.fit(np.random.default_rng(0).random((5, 28, 28)))(np.ones((2, 28, 28)))
    >>> x.L, x.phys_dims[0], x.bond_dims[0]
    (16, 50, 1)
    >>> bool(np.allclose(encoder.reconstruct(x), 1.0))
    True
    >>> ProductEncoder((28, 28), patch=(10, 10), stride=(6, 6)).grid
    (4, 4)
    >>> ProductEncoder((32, 32, 3), patch=(4, 4)).phys_dims[:2]  # 1 + 4 * 4 * 3
    (49, 49)
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        patch: Sequence[int] = (1, 1),
        order: str = "snake",
        features: str = "linear",
        scale: float = 1.0,
        standardize: str = "pixel",
        stride: Sequence[int] | None = None,
    ):
        super().__init__(image_shape, standardize)
        self.patch = check_dims(patch, "patch")
        self.stride = self.patch if stride is None else check_dims(stride, "stride")
        if len(self.patch) != 2 or len(self.stride) != 2:
            raise ValueError(
                f"patch is {self.patch} and stride {self.stride}, expected (height, width) each"
            )
        steps = list(zip(self.image_shape[:2], self.patch, self.stride, strict=True))
        if any(side < p or (side - p) % step for side, p, step in steps):
            raise ValueError(
                f"patches {self.patch} at strides {self.stride} do not end where an image of "
                f"shape {self.image_shape} ends; choose them so that side - patch is a multiple "
                "of the stride"
            )
        if features not in FEATURES:
            raise ValueError(f"features is {features!r}; choose one of {', '.join(FEATURES)}")
        self._entries = dims_product(self.patch) * self.channels
        if features == "trig" and (self._entries != 1 or standardize != "none"):
            raise ValueError(
                "features 'trig' takes grey images, patch=(1, 1) and standardize='none' (pixels "
                "in [0, 1]); use features='linear' for patches and colours"
            )
        if not scale > 0.0:
            raise ValueError(f"scale is {scale!r}, expected a positive number")
        self.order, self.features, self.scale = order, features, scale
        rows, cols = ((side - p) // step + 1 for side, p, step in steps)
        self.grid = (rows, cols)
        self._index = site_order(*self.grid, order)
        self.phys_dims = (self._entries + 1,) * len(self._index)

    def encode(self, data: Any) -> Cores:
        """Map images to cores (n, 1, phys, 1), in their dtype, on NumPy."""
        images = self._standardized(data)
        # (n, rows, cols, channels, patch height, patch width), a view
        windows = np.lib.stride_tricks.sliding_window_view(images, self.patch, axis=(1, 2))
        tiles = windows[:, :: self.stride[0], :: self.stride[1]].transpose(1, 2, 0, 4, 5, 3)
        tiles = tiles.reshape(len(self._index), len(images), -1)  # (patches, n, entries)
        tiles = tiles[self._index]  # (sites, n, entries)
        if self.features == "trig":
            parts = [np.cos(np.pi / 2 * tiles), np.sin(np.pi / 2 * tiles)]
        else:
            parts = [np.ones_like(tiles[..., :1]), tiles * self._factor]
        sites = np.concatenate(parts, axis=2).astype(images.dtype)
        return tuple(site[:, None, :, None] for site in sites)  # (n, 1, phys, 1)

    def reconstruct(self, x: MPS | Cores) -> np.ndarray:
        """Return the images (n, height, width[, channels]) that product states encode.

        Overlapping patches are averaged; pixels outside all patches get the mean of the training
        images.
        """
        sites = np.stack(site_vectors(x, self.phys_dims))  # (sites, n, phys)
        if self.features == "trig":
            tiles = np.arctan2(sites[..., 1:], sites[..., :1]) * (2 / np.pi)
        else:
            tiles = sites[..., 1:] / sites[..., :1] / self._factor
        (height, width), (ph, pw), n = self.image_shape[:2], self.patch, sites.shape[1]
        total = np.zeros((n, height, width, self.channels))
        count = np.zeros((height, width, 1))
        for place, tile in zip(self._index, tiles, strict=True):
            row, col = divmod(int(place), self.grid[1])
            row, col = row * self.stride[0], col * self.stride[1]
            total[:, row : row + ph, col : col + pw] += tile.reshape(n, ph, pw, self.channels)
            count[row : row + ph, col : col + pw] += 1.0
        return self._original(total / np.maximum(count, 1.0))

    @property
    def _factor(self) -> float:
        return self.scale / np.sqrt(self._entries)


def _prime_factors(number: int) -> list[int]:
    factors, divisor = [], 2
    while number > 1:
        while number % divisor == 0:
            factors.append(divisor)
            number //= divisor
        divisor += 1
    return factors
