"""Nonlinear layers under asv: time of each beside that of a Linear, by backend and device."""

import numpy as np

import ftnn
from ftnn.arrays.backend import convert, synchronize
from ftnn.encoding.functions import from_function
from ftnn.nonlinear import KAN, Elementwise, Gated, LayerNorm, Pointwise, RMSNorm, SVDGauge

from .workloads import PLACES, usable

DIMS = (8,) * 5
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
