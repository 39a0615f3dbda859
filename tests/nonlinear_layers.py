"""Every nonlinear layer and normalization, in the way it is to be used."""

from catalogue import ENOUGH, trained

import ftnn
from ftnn.nonlinear import (
    KAN,
    CoreNorm,
    Elementwise,
    Gated,
    LayerNorm,
    Pointwise,
    Polynomial,
    RMSNorm,
    SketchGauge,
    SVDGauge,
)


def behind_gauge(dims, layer):
    return ftnn.Sequential(SketchGauge(dims, 5), layer)


# functions of cores stand behind a gauge
LAYERS = {
    "gelu": lambda dims: behind_gauge(dims, Pointwise("gelu", residual=True)),
    "relu": lambda dims: behind_gauge(dims, Pointwise("relu")),
    "plain-tanh": lambda dims: behind_gauge(dims, Pointwise("tanh", normalize=False)),
    "tanh-svd": lambda dims: ftnn.Sequential(SVDGauge(), Pointwise("tanh")),
    "radial": lambda dims: behind_gauge(dims, KAN(dims, basis="radial", seed=1)),
    "radial-all": lambda dims: behind_gauge(dims, KAN(dims, basis="radial", odd=False)),
    "spline": lambda dims: behind_gauge(dims, KAN(dims, basis="spline", grid=4)),
    "spline-all": lambda dims: behind_gauge(dims, KAN(dims, basis="spline", odd=False)),
    "gated": lambda dims: Gated(dims, dims, 2, 4, inner_bond=3),
    "bilinear": lambda dims: Gated(dims, tuple(d + 1 for d in dims), 2, 4, offset=False),
    "polynomial": lambda dims: Polynomial(dims, [0.5, 1.0, -1.0], ENOUGH),
    "elementwise": lambda dims: Elementwise("tanh", ENOUGH),
    "layer-norm": lambda dims: trained(LayerNorm(dims, 5, bond_dim=2, eps=0.1)),
    "layer-norm-plain": lambda dims: LayerNorm(dims, eps=0.1, affine=False),
    "rms-norm-gain": lambda dims: trained(RMSNorm(0.1, dims)),
    "core-norm": lambda dims: CoreNorm(0.5, "keep"),
    "core-norm-drop": lambda dims: ftnn.Sequential(SketchGauge(dims, 5), CoreNorm(product="drop")),
    "core-norm-running": lambda dims: behind_gauge(dims, CoreNorm(product="running")),
    "svd-gauge": lambda dims: SVDGauge(),
    "sketch-gauge": lambda dims: SketchGauge(dims, 4),
}
