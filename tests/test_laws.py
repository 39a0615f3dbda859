"""Every layer of the package obeys the laws: one suite over the catalogue."""

import importlib
import inspect
import pkgutil
import sys

import catalogue
import cupy_standin
import layer_laws
import numpy as np
import pytest
from catalogue import ENTRIES, Case, Source, cases, example
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import KINDS, Chain, mps

import ftnn
from ftnn.layers.layer import Layer

backends = st.sampled_from(["numpy", "torch"])
few = settings(max_examples=max(3, settings.default.max_examples // 5))
every = pytest.mark.parametrize("name", ENTRIES)
entangled = pytest.mark.parametrize("name", [n for n, e in ENTRIES.items() if not e.product])


def subclasses(cls):
    for sub in cls.__subclasses__():
        yield sub
        yield from subclasses(sub)


def test_no_layer_is_missing():
    for room in (ftnn.layers, ftnn.nonlinear, ftnn.encoding):
        for module in pkgutil.iter_modules(room.__path__, f"{room.__name__}."):
            importlib.import_module(module.name)
    classes = {
        cls
        for cls in subclasses(Layer)
        if cls.__module__.startswith("ftnn.")
        and not cls.__module__.startswith("ftnn.experiments.")
        and not inspect.isabstract(cls)
        # the example of a docstring defines layers, too, wherever doctest has run before
        and getattr(sys.modules[cls.__module__], cls.__name__, None) is cls
    }
    assert {entry.cls for entry in ENTRIES.values()} == classes


@every
def test_law_1_batched_is_stacked(name):
    @few
    @given(cases(name, ("generic", "padded", "product", "zero")), backends)
    def law(case, backend):
        layer_laws.batched(case, backend)

    law()


@every
def test_law_2_gauge(name):
    @few
    @given(cases(name, ("generic",)), backends)
    def law(case, backend):
        layer_laws.gauge(case, backend)

    law()


@entangled
def test_law_3_zero_padding(name):
    @few
    @given(cases(name), backends)
    def law(case, backend):
        layer_laws.padding(case, backend)

    law()


@every
def test_law_6_backends_agree(name):
    @few
    @given(cases(name, ("generic", "product", "zero")))
    def law(case):
        layer_laws.backends(case)

    law()


@every
def test_law_6_the_path_of_cupy(name):
    case = example(name)
    with cupy_standin.installed():
        layer_laws.backends(case, others=("cupy",))


@every
def test_law_7_gradients_are_finite_for_every_input(name):
    @few
    @given(cases(name), st.sampled_from(["float32", "float64"]), st.booleans())
    def law(case, dtype, pad):
        layer_laws.gradients(case, dtype, pad and not case.entry.product)

    law()


@pytest.mark.parametrize("kind", KINDS)
@every
def test_law_7_gradients_are_finite_for_every_kind_of_state(name, kind):
    layer_laws.gradients(example(name, kind))


@every
@pytest.mark.parametrize(("decade", "L"), [(-16, 3), (8, 3), (-17, 12)])
def test_law_7_tiny_and_huge_vectors(name, decade, L):
    """In single precision; norms under- or overflow that, and squared ones any precision."""
    chain = Chain(3, (2,) * L, (1 if ENTRIES[name].product else 2,) * (L - 1), "generic", 1)
    case = Case(name, ENTRIES[name].draw(Source(seed=1), chain.dims), chain)
    layer_laws.gradients(case, "float32", exponents=(decade,) * L)


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if entry.smooth])
def test_law_7_gradients_equal_finite_differences(name):
    @few
    @given(cases(name, ("generic",), max_sites=3, max_phys=3))
    def law(case):
        layer_laws.finite_differences(case)

    law()


@every
def test_law_9_same_seed_same_result(name):
    @few
    @given(cases(name), backends)
    def law(case, backend):
        layer_laws.repeatable(case, backend)

    law()


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if entry.long])
def test_law_9_a_thousand_sites_in_single_precision(name):
    entry, dims = ENTRIES[name], (2,) * 1000
    chain = Chain(2, dims, (1 if entry.product else 2,) * 999, "generic", 0)
    x = mps([1.7 * core.astype("float32") for core in catalogue.inputs(name, chain)])
    layer = entry.draw(Source(seed=0), dims).to("numpy", "float32")
    if name in ("Elementwise", "Gated", "Readout"):  # of the entries themselves, 1e-200 here
        x = ftnn.nonlinear.RMSNorm()(x)
    first, again = (layer(x) for _ in range(2))
    first, again = (y.cores if isinstance(y, ftnn.MPS) else (y,) for y in (first, again))
    assert all(np.isfinite(array).all() for array in first)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))


@every
def test_layers_are_saved_and_loaded(name):
    @few
    @given(cases(name), st.sampled_from(["float32", "float64"]))
    def law(case, dtype):
        layer_laws.saved(case, dtype)
        layer_laws.rebuilt(case)

    law()


@every
def test_layers_say_what_they_are(name):
    layer_laws.described(example(name))
