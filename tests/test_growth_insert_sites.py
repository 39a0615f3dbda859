"""Laws of insert_sites: with a constant on the new sites, a longer chain is the same function."""

import numpy as np
import pytest
from growth_laws import (
    COMPLEX,
    ENOUGH,
    REAL,
    arrays_of,
    assert_apart,
    assert_close,
    assert_unchanged,
    gradients,
    make_network,
    networks,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import Chain

import ftnn
from ftnn.arrays.backend import to_numpy
from ftnn.growth import freeze, insert_sites, inserted_paths
from ftnn.layers.surgery import parameter_map
from ftnn.nonlinear import (
    KAN,
    CoreNorm,
    Dropout,
    Elementwise,
    FeatureMap,
    LayerNorm,
    Pointwise,
    Polynomial,
    RMSNorm,
    SketchGauge,
    SVDGauge,
)

DIMS, WIDE = (2, 3, 2), (3, 4, 3)
FIXED = [kind for kind in REAL if kind != "pointwise"]


def with_constants(x, position, dims, dtype="float64", backend="numpy"):
    """The state x times the vector (1, 0, ..., 0) on new sites."""
    cores = [to_numpy(core) for core in (x.cores if isinstance(x, ftnn.MPS) else x)]
    bond = 1 if position == len(cores) else cores[position].shape[1]
    new = [
        np.repeat((np.eye(bond)[:, None, :] * np.eye(d)[0][:, None])[None], len(cores[0]), 0)
        for d in dims
    ]
    whole = [*cores[:position], *new, *cores[position:]]
    return ftnn.MPS([core.astype(dtype) for core in whole]).to(backend)


def assert_same(longer, model, chain, position, dims, dtype="float64"):
    expected = model(chain.mps(dtype))
    if isinstance(expected, ftnn.MPS):
        expected = with_constants(expected, position, dims, dtype)
    assert_close(longer(with_constants(chain.mps(dtype), position, dims, dtype)), expected, dtype)


@settings(max_examples=60)
@given(networks(), st.data())
def test_with_a_constant_on_new_sites_it_is_the_same_function(case, data):
    model, chain = case
    position = data.draw(st.integers(0, chain.L))
    dims = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    before = arrays_of(model)
    longer = insert_sites(model, position, dims)
    assert_unchanged(model, before)
    assert_apart(model, longer)
    wide = model.layers[0].out_dims
    assert longer.layers[0].out_dims == (*wide[:position], *dims, *wide[position:])
    assert_same(longer, model, chain, position, dims)
    # the others are intact, and known where they stand
    blocks = parameter_map(model, longer, inserted_paths(model, position, len(dims)))
    assert sorted(block.name for block in blocks.values()) == sorted(model.named_params())
    for name, block in blocks.items():
        np.testing.assert_array_equal(longer.named_params()[name][block.target], before[block.name])


@settings(max_examples=8)
@given(
    st.sampled_from(["float32", "complex64", "complex128"]),
    st.integers(0, 99),
    st.integers(0, 3),
    st.data(),
)
def test_dtypes(dtype, seed, position, data):
    allowed = st.sampled_from(COMPLEX if "complex" in dtype else REAL)
    kinds = data.draw(st.lists(allowed, min_size=1, max_size=2))
    model = make_network(kinds, DIMS, 2, ENOUGH, seed, "expectation", dtype)
    longer = insert_sites(model, position, 3)
    assert {a.dtype.name for a in longer.named_arrays().values()} == {dtype}
    assert_same(longer, model, Chain(3, DIMS, (2, 2), "generic", seed), position, (3,), dtype)


@settings(max_examples=8)
@given(networks(heads=("readout",)), st.integers(0, 2))
def test_torch(case, position):
    model, chain = case
    expected = model(chain.mps())
    longer = insert_sites(model.to("torch"), position, 2)
    z = with_constants(chain.mps(), position, (2,), backend="torch")
    assert_close(longer(z), expected)


@settings(max_examples=15)
@given(
    st.lists(st.sampled_from([k for k in FIXED if k != "layer-norm"]), max_size=1),
    st.integers(0, 99),
    st.integers(0, 3),
)
def test_new_cores_have_gradients(kinds, seed, position):
    model = make_network(kinds, DIMS, 2, ENOUGH, seed)
    longer = insert_sites(model, position, 3)

    class Input:
        """What ``gradients`` asks of a chain."""

        def mps(self, dtype, backend):
            x = Chain(4, DIMS, (2, 2), "generic", seed).mps()
            return with_constants(x, position, (3,), dtype, backend)

    grads = gradients(longer, Input())
    assert all(np.isfinite(grad).all() for grad in grads.values())
    head = longer.layers[-1]
    for path in ("0", str(len(longer.layers) - 1)):
        new = np.abs(grads[f"{path}.weight.{position}"])
        assert (new[:, :, 0].max(axis=(0, 2)) > 1e-12).all()  # what goes out, of the constant
    assert (np.abs(head.params[f"weight.{position}"][:1, :, 1:]) > 0).all()


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize(
    "layer",
    [
        SketchGauge(WIDE, 4),
        SVDGauge(),
        CoreNorm(0.5),
        Pointwise("relu"),
        Pointwise("sigmoid", residual=True),
        Dropout(0.5),
        Polynomial(WIDE, [0.0, 1.0, 0.5], 5),
        Elementwise("sin", ENOUGH),
        LayerNorm(WIDE),
        LayerNorm(WIDE, 6, 2),
        LayerNorm(WIDE, 6, affine=False),
        RMSNorm(0.3, WIDE),
        KAN(WIDE, DIMS, odd=False),
        ftnn.Linear(WIDE, WIDE, [2, 3], [3, 4], bias_bond=[1, 2]),
        ftnn.Linear(WIDE, WIDE, 2, ENOUGH, method="direct"),
    ],
    ids=lambda layer: type(layer).__name__ if isinstance(layer, ftnn.Layer) else str(layer),
)
def test_every_kind_of_layer(layer, position):
    out = layer.out_dims or WIDE
    behind = [] if isinstance(layer, (LayerNorm, Elementwise, KAN)) else [KAN(out)]
    model = ftnn.Sequential(ftnn.Linear(DIMS, WIDE, 2, 5, seed=1), layer, *behind)
    assert_same(
        insert_sites(model, position, (2, 3)),
        model,
        Chain(3, DIMS, (2, 2), "generic", 0),
        position,
        (2, 3),
    )


@pytest.mark.parametrize("head", [ftnn.Readout(DIMS, 3, 2), ftnn.Expectation(DIMS, 3, 2)])
@pytest.mark.parametrize("position", [0, 1, 2, 3])
def test_the_output_index_stays_on_its_core(head, position):
    longer = insert_sites(head, position, (2, 2, 2))
    assert longer.center == (1 if position > 1 else 4)
    assert_same(longer, head, Chain(3, DIMS, (2, 2), "generic", 0), position, (2, 2, 2))
    again = insert_sites(longer, 6, [1] * 3)
    assert again.center == longer.center
    single = insert_sites(ftnn.Linear((3,), (2,), [], []), 1, 2)
    assert single.in_dims == (3, 2)


def test_old_cores_stay_frozen_and_new_ones_are_trained():
    model = freeze(make_network([], DIMS, 2, 5, 0), ["0", "1.weight.0"])
    longer = insert_sites(model, 1, 2)
    assert longer.named_params().keys() == {
        "0.weight.1",
        "0.bias.1",
        *(f"1.weight.{k}" for k in (1, 2, 3)),
        *(["1.bias"] if model.layers[1].bias else []),
    }
    with pytest.raises(ValueError, match=r"array '0.weight.0' is frozen, but its shape would"):
        insert_sites(model, 0, 2)


def only(layer):
    return ftnn.Sequential(ftnn.Linear(DIMS, DIMS, 1, 2), layer)


@pytest.mark.parametrize(
    ("model", "position", "dims", "error", "words"),
    [
        (only(RMSNorm()), 4, 2, ValueError, "position is 4, expected an old site that new ones"),
        (only(RMSNorm()), -1, 2, ValueError, "position is -1"),
        (only(RMSNorm()), 0, 0, ValueError, r"dims is \(0,\), expected"),
        (RMSNorm(), 0, 2, ValueError, "the model has no layer with dimensions"),
        (only(Pointwise("relu")), 3, 2, ValueError, "Pointwise '1' is not an odd function"),
        (only(KAN(DIMS, odd=False)), 3, 2, ValueError, "KAN '1' is not an odd function"),
        (only(Pointwise("tanh", normalize=False)), 0, 2, ValueError, "scale depends on the number"),
        (only(CoreNorm(product="drop")), 0, 2, ValueError, "CoreNorm '1' drops the norms of cores"),
        (only(Elementwise("sigmoid", 2)), 0, 2, ValueError, "Elementwise '1' maps 0 to 0.5"),
        (KAN((2, 2), share=True), 0, 2, ValueError, "KAN '' shares its functions between sites"),
        (FeatureMap((2, 2), (3, 3), 2), 0, 2, TypeError, "FeatureMap '' maps blocks of sites, or"),
        (3, 0, 2, TypeError, "model is a int"),
    ],
)
def test_what_cannot_get_longer_is_named(model, position, dims, error, words):
    with pytest.raises(error, match=words):
        insert_sites(model, position, dims)


@pytest.mark.parametrize("kind", [ftnn.Readout, ftnn.Expectation])
def test_the_output_index_may_be_on_any_site(kind):
    """Dense outputs do not depend on the site from which they are read."""
    x = Chain(3, DIMS, (2, 2), "generic", 0).mps()
    for site in range(3):
        head = kind(DIMS, 3, [2, 3], output_site=site)
        assert head.center == site
        cores = head.operators()["weight"]
        y = x.to_dense()
        for n in range(3):  # the operator of one output
            single = [
                core.reshape(core.shape[0], 3, -1, *core.shape[2:])[:, n] if k == site else core
                for k, core in enumerate(cores)
            ]
            matrix = ftnn.MPO(single).to_dense()
            expected = y @ matrix.T
            if kind is ftnn.Expectation:
                expected = (y * expected).sum(1, keepdims=True) / (y * y).sum(1, keepdims=True)
            np.testing.assert_allclose(head(x)[:, n], expected[:, 0], rtol=1e-9)
        with pytest.raises(ValueError, match="output_site is 3, expected one of the 3 sites"):
            kind(DIMS, 3, 2, output_site=3)
