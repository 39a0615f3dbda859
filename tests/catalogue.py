"""Every layer of the package, each with a way to draw a valid constructor call and an input.

A builder gets a source of choices and the physical dimensions of the input. The source is
hypothesis, which shrinks what fails, or a seeded generator, where one example is enough.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from laws import KINDS, MAX_ENTRIES, Chain

import ftnn
from ftnn.nonlinear import (
    KAN,
    BlockMap,
    CoreNorm,
    Dropout,
    Elementwise,
    FeatureMap,
    Gated,
    LayerNorm,
    Pointwise,
    Polynomial,
    ProductMap,
    RMSNorm,
    SketchGauge,
    SVDGauge,
)
from ftnn.truncation import METHODS

ENOUGH = 64
"""A bond that truncates nothing of what is drawn here."""

SHIFTS = ((0, 0), (0, 1), (-1, 0), (2, -1))

FUNCTIONS = ("relu", "gelu", "tanh", "sigmoid", "silu", "sin")


class Source:
    """Choices from hypothesis, or from a seeded generator."""

    def __init__(self, draw: Callable | None = None, seed: int = 0):
        self._draw, self._rng = draw, np.random.default_rng(seed)

    def integer(self, low: int, high: int) -> int:
        """Choose an integer from low to high, both included."""
        if self._draw is None:
            return int(self._rng.integers(low, high + 1))
        return self._draw(st.integers(low, high))

    def choice(self, *options: Any) -> Any:
        """Choose one of the options; hypothesis shrinks towards the first."""
        return options[self.integer(0, len(options) - 1)]

    def dims(self, like: tuple[int, ...], high: int = 4) -> tuple[int, ...]:
        """Choose a physical dimension a site; on long chains from two for all of them."""
        if len(like) > 20:
            return tuple(self.integer(1, 2) + 1 for _ in like[:2]) * (len(like) // 2)
        return tuple(self.integer(1, high) for _ in like)


# ---- builders ------------------------------------------------------------------------------------


def _linear(source: Source, dims: tuple[int, ...]) -> ftnn.Layer:
    bias = source.choice(True, False)
    return ftnn.Linear(
        dims,
        source.dims(dims),
        source.integer(1, 3),
        source.integer(1, 4),
        bias=bias,
        method=source.choice("src", *METHODS),
        seed=source.integer(0, 99),
        bias_bond=source.integer(1, 3) if bias else 1,
    )


def _coarsen(source: Source, dims: tuple[int, ...]) -> ftnn.Layer:
    sizes = [size for size in (1, 2, 3, 4, 5) if len(dims) % size == 0]
    out = source.dims(dims, 3)[: len(dims) // source.choice(*sizes)]
    return ftnn.Coarsen(dims, out, source.integer(1, 4), seed=source.integer(0, 99))


def _residual(source: Source, dims: tuple[int, ...]) -> ftnn.Layer:
    inner = ftnn.Linear(dims, dims, source.integer(1, 3), source.integer(1, 4), seed=1)
    if source.choice(False, True):
        inner = ftnn.Sequential(inner, RMSNorm())
    return ftnn.Residual(inner, source.integer(1, 5), seed=source.integer(0, 99))


def _sequential(source: Source, dims: tuple[int, ...]) -> ftnn.Layer:
    wide = tuple(d + 1 for d in dims)
    return ftnn.Sequential(
        ftnn.Linear(dims, wide, 2, source.integer(1, 4), seed=source.integer(0, 99)),
        KAN(wide, seed=1),
        RMSNorm(),
        ftnn.Residual(ftnn.Linear(wide, wide, 2, 3, seed=2), source.integer(1, 4)),
        RMSNorm(),
        ftnn.Readout(wide, 4, 3, seed=3),
    )


def _readout(source: Source, dims: tuple[int, ...]) -> ftnn.Layer:
    bias, outputs = source.choice(False, True), source.integer(1, 4)
    layer = ftnn.Readout(dims, outputs, source.integer(1, 4), source.integer(0, 99), bias=bias)
    if bias:
        layer.params["bias"] = np.random.default_rng(0).standard_normal(outputs)
    return layer


def _expectation(source: Source, dims: tuple[int, ...]) -> ftnn.Layer:
    return ftnn.Expectation(dims, source.integer(1, 4), source.integer(1, 4), source.integer(0, 99))


def _pointwise(source: Source, dims: tuple[int, ...]) -> ftnn.Layer:
    normalize = source.choice(True, False)
    return Pointwise(source.choice(*FUNCTIONS), source.choice(False, True), normalize)


def _kan(source: Source, dims: tuple[int, ...]) -> ftnn.Layer:
    out = source.choice(dims, source.dims(dims))
    return KAN(
        dims,
        out,
        basis=source.choice("chebyshev", "radial", "spline"),
        grid=source.integer(1, 4),
        odd=source.choice(True, False),
        share=len({*zip(dims, out, strict=True)}) == 1 and source.choice(False, True),
        seed=source.integer(0, 99),
    )


def _gated(source: Source, dims: tuple[int, ...]) -> ftnn.Layer:
    inner, product = source.choice(None, 1, 2, 3), source.choice("sketch", "cross")
    # an interpolation is a law of the vector only where it is exact: rounding may move its places
    enough = product == "cross" and len(dims) < 20
    return Gated(
        dims,
        source.dims(dims),
        source.integer(1, 3),
        ENOUGH if enough else source.integer(1, 5),
        inner_bond=(inner or 4) if enough else inner,
        offset=source.choice(True, False),
        seed=source.integer(0, 99),
        product=product,
    )


def _polynomial(source: Source, dims: tuple[int, ...]) -> ftnn.Layer:
    coefficients = source.choice([0.5, 1.0, -1.0], [0.0, 1.0], [1.0, 0.0, 0.5, 0.25])
    return Polynomial(dims, coefficients, source.choice(ENOUGH, 2))


def _elementwise(source: Source, dims: tuple[int, ...]) -> ftnn.Layer:
    return Elementwise(source.choice(*FUNCTIONS), ENOUGH if len(dims) < 20 else 2)


def _rms_norm(source: Source, dims: tuple[int, ...]) -> ftnn.Layer:
    return RMSNorm(source.choice(0.0, 0.1), source.choice(None, dims))


def _layer_norm(source: Source, dims: tuple[int, ...]) -> ftnn.Layer:
    affine = source.choice(True, False)
    bond = source.integer(1, 2) if affine else 1
    # eps: the deviation of a constant vector is rounding, which nothing should be divided by
    return LayerNorm(dims, source.integer(1, 6), bond, eps=0.1, affine=affine)


def _core_norm(source: Source, dims: tuple[int, ...]) -> ftnn.Layer:
    return CoreNorm(source.choice(1.0, 0.5), source.choice("keep", "drop", "running"))


def _dropout(source: Source, dims: tuple[int, ...]) -> ftnn.Layer:
    return Dropout(source.choice(0.3, 0.0))


def _feature_map(source: Source, dims: tuple[int, ...]) -> ftnn.Layer:
    out = (source.integer(2, 4),) * len(dims)
    share = source.choice(False, True)
    return FeatureMap(dims, out, source.integer(1, 5), source.choice(*FUNCTIONS), share, seed=1)


def _product_map(source: Source, dims: tuple[int, ...]) -> ftnn.Layer:
    residual, shifts = source.choice(False, True), SHIFTS[: source.integer(1, len(SHIFTS))]
    out = dims if residual else (source.integer(2, 4),) * len(dims)
    rows = source.choice(*(n for n in (1, 2, 3) if len(dims) % n == 0))
    return ProductMap(
        dims,
        out,
        len(shifts) * source.integer(1, 2),
        (rows, len(dims) // rows),
        shifts,
        source.choice("product", "sum", "tanh"),
        residual,
        seed=1,
    )


def _block_map(source: Source, dims: tuple[int, ...]) -> ftnn.Layer:
    rows = source.choice(*(n for n in (1, 2, 3) if len(dims) % n == 0))
    grid = (rows, len(dims) // rows)
    block = [source.choice(*(n for n in (1, 2, 3) if side % n == 0)) for side in grid]
    return BlockMap(dims, source.integer(2, 4), source.integer(1, 3), grid, block, seed=1)


def _sketch_gauge(source: Source, dims: tuple[int, ...]) -> ftnn.Layer:
    return SketchGauge(dims, source.integer(1, 6), source.integer(0, 99))


def _svd_gauge(source: Source, dims: tuple[int, ...]) -> ftnn.Layer:
    return SVDGauge()


@dataclass(frozen=True)
class Entry:
    """A layer of the package, and what it takes.

    Attributes
    ----------
    cls : type
    build : callable
        Maps a :class:`Source` and physical dimensions to a layer.
    on_cores : bool
        A function of cores: one of the vector only behind a gauge, which it is put behind.
    product : bool
        Takes product states with a constant channel only, of one dimension on every site.
    degree : int or None
        How the norm of the output grows with that of the input; None if it is no power of it.
    smooth : bool
        Whether finite differences exist everywhere.
    long : bool
        Whether a thousand sites are an affordable input.
    any_norm : bool
        Whether vectors of any norm are an input whose output can be represented: not where it
        grows with a power of the norm, or holds the entries themselves.
    """

    cls: type
    build: Callable[[Source, tuple[int, ...]], ftnn.Layer]
    on_cores: bool = False
    product: bool = False
    degree: int | None = None
    smooth: bool = True
    long: bool = True
    any_norm: bool = True

    def draw(self, source: Source, dims: tuple[int, ...]) -> ftnn.Layer:
        """Build a layer, behind a gauge where it needs one."""
        layer = self.build(source, dims)
        if self.on_cores:
            gauge = SketchGauge(dims, source.integer(1, 5))
            layer = ftnn.Sequential(gauge, layer)
        return layer


ENTRIES = {
    entry.cls.__name__: entry
    for entry in (
        Entry(ftnn.Linear, _linear),
        Entry(ftnn.Coarsen, _coarsen, degree=1, any_norm=False),
        Entry(ftnn.Residual, _residual),
        Entry(ftnn.Sequential, _sequential),
        Entry(ftnn.Readout, _readout, degree=1, any_norm=False),
        Entry(ftnn.Expectation, _expectation, degree=0),
        Entry(Pointwise, _pointwise, on_cores=True, smooth=False, any_norm=False),
        Entry(KAN, _kan, on_cores=True, degree=1),
        Entry(Gated, _gated, any_norm=False),
        Entry(Polynomial, _polynomial, long=False, any_norm=False),
        Entry(Elementwise, _elementwise, smooth=False, any_norm=False),
        Entry(RMSNorm, _rms_norm),
        Entry(LayerNorm, _layer_norm),
        Entry(CoreNorm, _core_norm, on_cores=True),
        Entry(Dropout, _dropout, degree=1),
        Entry(FeatureMap, _feature_map, product=True, degree=1, smooth=False),
        Entry(ProductMap, _product_map, product=True, degree=1),
        Entry(BlockMap, _block_map, product=True, degree=1, any_norm=False),
        Entry(SketchGauge, _sketch_gauge, degree=1),
        Entry(SVDGauge, _svd_gauge, degree=1, long=False),
    )
}


def trained(layer: ftnn.Layer, seed: int = 3) -> ftnn.Layer:
    """Move every parameter: those that start at ones and zeros hide mistakes in them."""
    rng = np.random.default_rng(seed)
    for _, part in layer.walk():
        for name, array in part.params.items():
            size = np.sqrt(np.mean(array**2)) or 1.0
            part.params[name] = array + 0.3 * size * rng.standard_normal(array.shape)
    return layer


# ---- cases ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A layer, what it was built from, and an input.

    Attributes
    ----------
    name : str
        Of the class, a key of :data:`ENTRIES`.
    layer : Layer
        On NumPy, in float64; :meth:`placed` gives copies.
    chain : Chain
        Shapes, kind and seed of the input.
    reach : tuple of float
        Scales of the cores, -1 to 1: shares of the decades that a dtype has; empty for none.
    """

    name: str
    layer: ftnn.Layer
    chain: Chain
    reach: tuple[float, ...] = ()

    @property
    def entry(self) -> Entry:
        """What the catalogue knows of the layer."""
        return ENTRIES[self.name]

    def placed(self, backend: str = "numpy", dtype: str = "float64") -> ftnn.Layer:
        """Copy the layer to a backend."""
        return copy.deepcopy(self.layer).to(backend, dtype)

    def cores(self, dtype: str = "float64") -> list[np.ndarray]:
        """Arrays of the input, on NumPy."""
        cores = inputs(self.name, self.chain)
        scales = [10.0**e for e in exponents(self.reach, dtype)] or [1.0] * len(cores)
        return [(s * core).astype(dtype) for s, core in zip(scales, cores, strict=True)]

    def __repr__(self) -> str:
        parts = [
            f"{type(part).__name__}({', '.join(f'{k}={v!r}' for k, v in part.config().items())})"
            for _, part in self.layer.walk()
        ]
        return f"Case({self.name!r}, {' > '.join(parts)}, {self.chain!r}, {self.reach})"


def inputs(name: str, chain: Chain, dtype: str = "float64") -> list[np.ndarray]:
    """Arrays of a chain as the layer takes it: a feature map needs its constant channel."""
    cores = chain.cores(dtype)
    if ENTRIES[name].product:
        for core in cores:
            signs = np.where(core[:, :, 0].real < 0, -1.0, 1.0)
            core[:, :, 0] = signs * (0.3 + np.abs(core[:, :, 0]))
    return cores


DECADES = {"float32": 30, "complex64": 30, "float64": 200, "complex128": 200}
"""Cores may be as small and as large as ten to this."""


def exponents(reach: tuple[float, ...], dtype: str) -> tuple[int, ...]:
    """Powers of ten of the cores, for shares of the decades of a dtype."""
    return tuple(round(DECADES[dtype] * share) for share in reach)


@st.composite
def reaches(draw, L: int, balanced: bool = False, apart: float = 2.0):
    """Draw scales of L cores: of none, of one, the same of all, or of each its own.

    Parameters
    ----------
    draw : callable
    L : int
    balanced : bool
        Whether their product is to be one.
    apart : float
        Largest distance of two of them.
    """
    kind = draw(st.sampled_from(["none", "one", "all", "each"]))
    share = st.integers(-10, 10).map(lambda n: n / 10)
    if kind == "none":
        return ()
    if balanced or kind == "each":
        narrow = min(1.0, apart / 2)
        own = [narrow * draw(share) for _ in range(L)]
        if not balanced:
            return tuple(own)
        if kind == "one":
            own = own[:1] + [0.0] * (L - 1)
        if kind == "all":
            own = own[:1] * L
        pairs = [x for each in own[: L // 2] for x in (each, -each)]
        return tuple(pairs + [0.0] * (L % 2))
    first = draw(share)
    if kind == "all":
        return (first,) * L
    site = draw(st.integers(0, L - 1))
    return tuple(min(1.0, apart) * first if k == site else 0.0 for k in range(L))


@st.composite
def cases(
    draw,
    name: str,
    kinds: tuple[str, ...] = KINDS,
    max_sites: int = 4,
    max_phys: int = 4,
    apart: float | None = None,
):
    """Draw a layer of a class and an input for it; with scales that far apart, if given."""
    entry, source = ENTRIES[name], Source(draw)
    L, entries, dims = draw(st.integers(1, max_sites)), 1, []
    for _ in range(L):
        low, high = (2, max_phys) if entry.product else (1, max_phys)
        dims.append(source.integer(low, max(low, min(high, MAX_ENTRIES // entries))))
        entries *= dims[-1]
    if entry.product:
        dims, kinds = [dims[0]] * L, ("generic", "repeated")
    bonds = [1 if entry.product else source.integer(1, 5) for _ in range(L - 1)]
    chain = Chain(
        source.integer(1, 4),
        tuple(dims),
        tuple(bonds),
        draw(st.sampled_from(kinds)),
        draw(st.integers(0, 2**16)),
    )
    layer = trained(entry.draw(source, tuple(dims)))
    reach = () if apart is None else draw(reaches(L, not entry.any_norm, apart))
    return Case(name, layer, chain, reach)


def example(name: str, kind: str = "generic", seed: int = 1) -> Case:
    """Give one small case of a class, with a truncation in it."""
    entry = ENTRIES[name]
    chain = Chain(3, (2, 3, 2), (3, 3), kind, seed)
    if entry.product:
        chain = Chain(3, (3, 3, 3), (1, 1), kind if kind == "repeated" else "generic", seed)
    return Case(name, trained(entry.draw(Source(seed=seed), chain.dims)), chain)
