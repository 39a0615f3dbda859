"""Nonlinear layers under asv: time of each beside that of a Linear, by backend and device."""

import numpy as np

import ftnn
from ftnn.arrays.backend import convert, synchronize
from ftnn.encoding.functions import from_function
from ftnn.measure.memory import peak_bytes
from ftnn.nonlinear import KAN, Elementwise, Gated, LayerNorm, Pointwise, RMSNorm, SVDGauge

from .products import BONDS, PRODUCTS, forward, forward_backward
from .products import DIMS as DIMS_OF_PRODUCTS
from .workloads import PLACES, usable

DIMS = (8,) * 5
ON_TORCH = [place for place in PLACES if place.startswith("torch")]
LAYERS = {
    "linear": lambda: ftnn.Linear(DIMS, DIMS, 8, 8),
    "pointwise-gelu": lambda: Pointwise("gelu"),
    "kan-chebyshev": lambda: KAN(DIMS),
    "kan-radial": lambda: KAN(DIMS, basis="radial"),
    "kan-spline": lambda: KAN(DIMS, basis="spline"),
    "gated": lambda: Gated(DIMS, DIMS, 2, 8),
    "rms-norm": RMSNorm,
    "layer-norm": lambda: LayerNorm(DIMS, 8),
    "svd-gauge": SVDGauge,
}


def _cores(batch, dims, bond, place):
    rng = np.random.default_rng(0)
    bonds = [1, *[bond] * (len(dims) - 1), 1]
    backend, device = place.split("-")
    shapes = zip(bonds[:-1], dims, bonds[1:], strict=True)
    return tuple(
        convert(rng.standard_normal((batch, l, d, r)) / l**0.5, backend, "float32", device)
        for l, d, r in shapes
    )


def _waves(points):
    rng = np.random.default_rng(0)
    size, phase = rng.standard_normal((2, 32, 4, 1))
    modes = np.arange(1, 5)[:, None]
    return (size * np.sin(2 * np.pi * (modes * points + phase))).sum(axis=1)  # (batch, points)


class Layer:
    """L=5, phys 8, bond 8, batch 256, float32, forward."""

    params = (sorted(LAYERS), PLACES)
    param_names = ("layer", "place")

    def setup(self, name, place):
        if not usable(place):
            raise NotImplementedError(f"{place} is not here")
        backend, device = place.split("-")
        self.layer = LAYERS[name]().to(backend, "float32", device)
        self.cores = _cores(256, DIMS, 8, place)
        self.time_forward(name, place)

    def time_forward(self, _, place):
        self.layer.apply(self.cores)
        synchronize(place)


class Cross:
    """Elementwise tanh, to bond 8, of 32 waves on a grid of 2^20 points."""

    params = (["float32"], PLACES)
    param_names = ("dtype", "place")

    def setup(self, dtype, place):
        if not usable(place):
            raise NotImplementedError(f"{place} is not here")
        self.layer = Elementwise("tanh", 8)
        backend, device = place.split("-")
        waves = from_function(_waves, sites=20).cores
        self.cores = tuple(convert(core, backend, dtype, device) for core in waves)
        self.time_forward(dtype, place)

    def time_forward(self, _, place):
        self.layer.apply(self.cores)
        synchronize(place)

    def track_sampled_error(self, _dtype, _place):
        return float(self.layer.sampled_error(ftnn.MPS(self.cores)).mean())

    track_sampled_error.unit = "relative"


# ---- the elementwise product of two states -------------------------------------------------------


class Hadamard:
    """Product of two states of bond m, truncated to m: L=12, one sample, float32."""

    params = (BONDS, DIMS_OF_PRODUCTS, PRODUCTS, PLACES)
    param_names = ("m", "phys", "product", "place")

    def setup(self, bond, phys, product, place):
        if not usable(place):
            raise NotImplementedError(f"{place} is not here")
        self.run = forward(phys, bond, product, place)
        self.time_forward(bond, phys, product, place)

    def time_forward(self, _bond, _phys, _product, place):
        self.run()
        synchronize(place)


class HadamardGradient:
    """Product of two states of bond m, truncated to m, forward and backward."""

    params = (BONDS, DIMS_OF_PRODUCTS, PRODUCTS, ON_TORCH)
    param_names = ("m", "phys", "product", "place")

    def setup(self, bond, phys, product, place):
        if not usable(place):
            raise NotImplementedError(f"{place} is not here")
        self.run = forward_backward(phys, bond, product, place)
        self.time_forward_backward(bond, phys, product, place)

    def time_forward_backward(self, _bond, _phys, _product, place):
        self.run()
        synchronize(place)


class HadamardMemory:
    """Product of two states of bond m, truncated to m: torch's memory beyond that of the states."""

    params = (BONDS, DIMS_OF_PRODUCTS, PRODUCTS)
    param_names = ("m", "phys", "product")
    unit = "bytes"

    def setup(self, _bond, _phys, _product):
        if not usable("torch-cpu"):
            raise NotImplementedError("torch is not here")

    def track_peak_forward(self, bond, phys, product):
        return peak_bytes(forward(phys, bond, product))

    def track_peak_forward_backward(self, bond, phys, product):
        return peak_bytes(forward_backward(phys, bond, product))
