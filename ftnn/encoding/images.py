"""Images to MPS: amplitude encodings by TT-SVD and product feature maps.

An encoder is fitted once, on training images, and is saved with the model. Both encoders share
the site orders: ``"row-major"``, ``"snake"`` (every other row reversed, so that neighbouring
sites are neighbouring pixels) and ``"quantics"`` (Morton: coarse to fine, a 2 x 2 block at a
time).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self, final

import numpy as np

from ..arrays.backend import Array, check_finite, check_floating, dims_product
from ..chains.bonds import MaxBond, check_rank
from ..chains.states import MPS, check_dims
from ..chains.terms import Cores
from ..chains.tt_svd import tt_svd

ORDERS = ("row-major", "snake", "quantics")
STANDARDIZATIONS = ("none", "global", "pixel")
FEATURES = ("linear", "trig")


def site_order(height: int, width: int, order: str) -> np.ndarray:
    """Row-major positions of a grid, in the order of sites.

    Parameters
    ----------
    height, width : int
        For "quantics" both must be one power of two.
    order : {"row-major", "snake", "quantics"}

    Returns
    -------
    int array (height * width,)

    Examples
    --------
    >>> print(site_order(2, 3, "snake"), site_order(4, 4, "quantics")[:8])
    [0 1 2 5 4 3] [0 1 4 5 2 3 6 7]
    """
    grid = np.arange(height * width).reshape(height, width)
    if order == "row-major":
        return grid.ravel()
    if order == "snake":
        grid[1::2] = grid[1::2, ::-1]
        return grid.ravel()
    if order == "quantics":
        if height != width or height & (height - 1):
            raise ValueError(
                f"order 'quantics' needs a square grid whose side is a power of two, got "
                f"{height} x {width}; pad it, or choose 'snake'"
            )
        n = height.bit_length() - 1
        bits = grid.reshape((2,) * (2 * n))  # row bits, then column bits, coarse to fine
        return bits.transpose([axis for k in range(n) for axis in (k, n + k)]).ravel()
    raise ValueError(f"order is {order!r}; choose one of {', '.join(ORDERS)}")


class Encoder(ABC):
    """What both image encoders share: standardization, checks, and how they are saved.

    Attributes
    ----------
    image_shape : tuple of int
        Height and width.
    buffers : dict of str to numpy.ndarray
        Mean and scale of the training images; saved with the model.
    phys_dims : tuple of int
        Physical dimensions of the MPS.
    """

    def __init__(self, image_shape: Sequence[int], standardize: str):
        self.image_shape = check_dims(image_shape, "image_shape")
        if len(self.image_shape) != 2:
            raise ValueError(f"image_shape is {self.image_shape}, expected (height, width)")
        if standardize not in STANDARDIZATIONS:
            raise ValueError(
                f"standardize is {standardize!r}; choose one of {', '.join(STANDARDIZATIONS)}"
            )
        self.standardize = standardize
        self.phys_dims: tuple[int, ...] = ()
        self.buffers = {"mean": np.zeros(self.image_shape), "scale": np.ones(self.image_shape)}

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Arguments of the constructor, as JSON types."""

    @abstractmethod
    def _encode(self, images: np.ndarray) -> Cores:
        """Cores of standardized images (batch, height, width)."""

    @final
    def fit(self, images: Array) -> Self:
        """Take mean and scale from training images (none of them for standardize="none").

        Parameters
        ----------
        images : array (batch, height, width)
            Training images only: validation and test images must not leak in here.

        Returns
        -------
        Encoder
            This encoder.
        """
        images = self._check(images).astype(np.float64)
        if self.standardize == "global":
            self.buffers["mean"] = np.full(self.image_shape, images.mean())
            self.buffers["scale"] = np.full(self.image_shape, 1.0 / max(images.std(), 1e-12))
        elif self.standardize == "pixel":
            # a pixel that hardly varies is not blown up: a tenth of the typical spread is added
            deviation = images.std(axis=0)
            floor = 0.1 * np.sqrt(np.mean(deviation**2)) + 1e-12
            self.buffers["mean"] = images.mean(axis=0)
            self.buffers["scale"] = 1.0 / (deviation + floor)
        return self

    @final
    def encode(self, images: Array) -> Cores:
        """Cores of a batch of images, in their dtype, on NumPy.

        Parameters
        ----------
        images : array (batch, height, width)
            Floating and finite, scaled as those given to :meth:`fit`.

        Returns
        -------
        tuple of array (batch, left, phys, right)
        """
        images = self._check(images)
        mean, scale = (self.buffers[key].astype(images.dtype) for key in ("mean", "scale"))
        return self._encode((images - mean) * scale)

    @final
    def __call__(self, images: Array) -> MPS:
        """Encode a batch of images (batch, height, width) as an :class:`ftnn.MPS`."""
        return MPS(self.encode(images))

    def _check(self, images: Array) -> np.ndarray:
        check_floating(images, "images")
        images = np.asarray(images)
        if images.ndim != 3 or images.shape[0] == 0 or images.shape[1:] != self.image_shape:
            raise ValueError(
                f"images has shape {images.shape}, expected (batch, "
                f"{self.image_shape[0]}, {self.image_shape[1]}) with at least one image"
            )
        check_finite(images, "images")
        return images


class AmplitudeEncoder(Encoder):
    """The image as one vector, by batched TT-SVD.

    Parameters
    ----------
    image_shape : (height, width)
    order : {"quantics", "row-major", "snake"}
        For "quantics" the image is padded with zeros on all sides to a square whose side is a
        power of two, and each site is a 2 x 2 block at one scale, coarse to fine.
    dims : sequence of int, optional
        Physical dimensions; by default (4, 4, ...) for "quantics" and the prime factors of
        height and width otherwise.
    max_bond : int, optional
    rtol : float
        Relative error allowed for each image.
    standardize : {"none", "global", "pixel"}

    Examples
    --------
    >>> import numpy as np
    >>> encoder = AmplitudeEncoder((28, 28), max_bond=8)
    >>> x = encoder(np.random.default_rng(0).random((2, 28, 28)))
    >>> x.phys_dims, x.bond_dims
    ((4, 4, 4, 4, 4), (4, 8, 8, 4))
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        order: str = "quantics",
        dims: Sequence[int] | None = None,
        max_bond: MaxBond | None = None,
        rtol: float = 0.0,
        standardize: str = "none",
    ):
        super().__init__(image_shape, standardize)
        height, width = self.image_shape
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
            )
        self.phys_dims = check_dims(dims, "dims")
        self.max_bond = check_rank(max_bond, rtol, len(self.phys_dims))
        if dims_product(self.phys_dims) != len(self._index):
            raise ValueError(
                f"dims {self.phys_dims} multiply to {dims_product(self.phys_dims)}, but the "
                f"image has {len(self._index)} pixels in order {order!r}"
            )

    def _encode(self, images: np.ndarray) -> Cores:
        height, width = self.image_shape
        more = (self.padded[0] - height, self.padded[1] - width)
        pad = ((0, 0), *((m // 2, m - m // 2) for m in more))  # in the middle: mirrors stay images
        flat = np.pad(images, pad).reshape(len(images), -1)[:, self._index]
        return tt_svd(flat, self.phys_dims, self.max_bond, self.rtol)

    def config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            "image_shape": list(self.image_shape),
            "order": self.order,
            "dims": list(self.phys_dims),
            "max_bond": self.max_bond,
            "rtol": self.rtol,
            "standardize": self.standardize,
        }


class ProductEncoder(Encoder):
    r"""A product state: every site is a small vector made of one pixel or one patch, bond 1.

    ``features="linear"``: :math:`(1, \phi)` with :math:`\phi` the standardized pixels of the
    patch times ``scale / sqrt(pixels)``. The constant channel keeps the overlap of long chains
    from decaying; :math:`\phi` should be small when there are many sites.
    ``features="trig"``: :math:`(\cos\tfrac{\pi}{2}x, \sin\tfrac{\pi}{2}x)` of one pixel
    (Stoudenmire, Schwab, arXiv:1605.05775, equation 3).

    Parameters
    ----------
    image_shape : (height, width)
    patch : (height, width)
        The sites are the patches.
    stride : (height, width), optional
        From one patch to the next; by default the patch, so that they tile the image. Patches
        overlap where it is smaller. They must end where the image ends.
    order : {"snake", "row-major", "quantics"}
        Order of the patches along the chain.
    features : {"linear", "trig"}
    scale : float
        Size of the features beside the constant channel ("linear").
    standardize : {"pixel", "global", "none"}
        "trig" takes "none".

    Examples
    --------
    >>> import numpy as np
    >>> encoder = ProductEncoder((28, 28), patch=(7, 7))
    >>> x = encoder.fit(np.random.default_rng(0).random((5, 28, 28)))(np.ones((2, 28, 28)))
    >>> x.L, x.phys_dims[0], x.bond_dims[0]
    (16, 50, 1)
    >>> ProductEncoder((28, 28), patch=(10, 10), stride=(6, 6)).grid
    (4, 4)
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
        steps = list(zip(self.image_shape, self.patch, self.stride, strict=True))
        if any(side < p or (side - p) % step for side, p, step in steps):
            raise ValueError(
                f"patches {self.patch} at strides {self.stride} do not end where an image of "
                f"shape {self.image_shape} ends; choose them so that side - patch is a multiple "
                "of the stride"
            )
        if features not in FEATURES:
            raise ValueError(f"features is {features!r}; choose one of {', '.join(FEATURES)}")
        pixels = dims_product(self.patch)
        if features == "trig" and (pixels != 1 or standardize != "none"):
            raise ValueError(
                "features 'trig' takes patch=(1, 1) and standardize='none' (pixels in [0, 1]); "
                "use features='linear' for patches"
            )
        if not scale > 0.0:
            raise ValueError(f"scale is {scale!r}, expected a positive number")
        self.order, self.features, self.scale = order, features, scale
        rows, cols = ((side - p) // step + 1 for side, p, step in steps)
        self.grid = (rows, cols)
        self._index = site_order(*self.grid, order)
        self.phys_dims = (pixels + 1,) * len(self._index)

    def _encode(self, images: np.ndarray) -> Cores:
        batch, (rows, cols), (ph, pw) = len(images), self.grid, self.patch
        windows = np.lib.stride_tricks.sliding_window_view(images, self.patch, axis=(1, 2))
        tiles = windows[:, :: self.stride[0], :: self.stride[1]].transpose(1, 2, 0, 3, 4)
        tiles = tiles.reshape(rows * cols, batch, ph * pw)[self._index]  # (sites, batch, pixels)
        if self.features == "trig":
            parts = [np.cos(np.pi / 2 * tiles), np.sin(np.pi / 2 * tiles)]
        else:
            parts = [np.ones_like(tiles[..., :1]), tiles * (self.scale / np.sqrt(ph * pw))]
        sites = np.concatenate(parts, axis=2).astype(images.dtype)
        return tuple(site[:, None, :, None] for site in sites)  # (batch, 1, phys, 1)

    def config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            "image_shape": list(self.image_shape),
            "patch": list(self.patch),
            "stride": list(self.stride),
            "order": self.order,
            "features": self.features,
            "scale": self.scale,
            "standardize": self.standardize,
        }


def _prime_factors(number: int) -> list[int]:
    factors, divisor = [], 2
    while number > 1:
        while number % divisor == 0:
            factors.append(divisor)
            number //= divisor
        divisor += 1
    return factors
