"""Laws of widen: the same function with larger hidden dimensions, whose new entries learn."""

import numpy as np
import pytest
from growth_laws import (
    COMPLEX,
    ENOUGH,
    REAL,
    arrays_of,
    assert_apart,
    assert_close,
    assert_same_function,
    assert_unchanged,
    gradients,
    make_network,
    networks,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from laws import Chain

import ftnn
from ftnn.growth import freeze, widen
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

DIMS, WIDE = (2, 3, 2), (3, 4, 3)


def exact_factors(model):
    """Whether no bilinear gate truncates its factors, one of which gets new random channels."""
    return not any(
        isinstance(layer, Gated) and not layer.offset and layer.inner_bond < ENOUGH
        for _, layer in model.walk()
    )


@settings(max_examples=60)
@given(networks(heads=("readout", "expectation")), st.integers(5, 6))
def test_wider_hidden_states_are_the_same_function(case, dim):
    model, chain = case
    assume(exact_factors(model))
    before = arrays_of(model)
    wider = widen(model, dim)
    assert_unchanged(model, before)
    assert_apart(model, wider)
    assert wider.layers[0].out_dims == (dim,) * chain.L == wider.layers[-1].in_dims
    assert_same_function(wider, model, chain)
    again = widen(wider, [dim + 1] * chain.L)
    assert_same_function(again, model, chain)


@settings(max_examples=10)
@given(networks(heads=(None,)), st.integers(5, 6))
def test_the_output_of_a_model_keeps_its_dimensions(case, dim):
    model, chain = case
    assume(exact_factors(model))
    last = moved_linear(model.layers[0].out_dims)
    longer = ftnn.Sequential(*model.layers, last)
    wider = widen(longer, dim)
    assert wider.out_dims == longer.out_dims
    assert_same_function(wider, longer, chain)


def moved_linear(dims):
    return ftnn.Linear(dims, (2,) * len(dims), 2, 4)


@settings(max_examples=8)
@given(st.sampled_from(["float32", "complex64", "complex128"]), st.integers(0, 99), st.data())
def test_dtypes(dtype, seed, data):
    allowed = st.sampled_from(COMPLEX if "complex" in dtype else REAL)
    kinds = data.draw(st.lists(allowed, min_size=1, max_size=2))
    model = make_network(kinds, DIMS, 2, ENOUGH, seed, "expectation", dtype)
    wider = widen(model, 5)
    assert {a.dtype.name for a in wider.named_arrays().values()} == {dtype}
    assert_same_function(wider, model, Chain(3, DIMS, (2, 2), "generic", seed), dtype)


@settings(max_examples=8)
@given(networks(heads=("readout",)))
def test_torch(case):
    model, chain = case
    assume(exact_factors(model))
    expected = model(chain.mps())
    assert_close(widen(model.to("torch"), 5)(chain.mps(backend="torch")), expected)


@settings(max_examples=20)
@given(
    st.lists(st.sampled_from(REAL), max_size=2),
    st.integers(0, 99),
    st.sampled_from(["readout", "expectation"]),
)
def test_new_channels_have_gradients(kinds, seed, head):
    model = make_network(kinds, DIMS, 2, ENOUGH, seed, head)
    wider = widen(model, 6)
    chain = Chain(4, DIMS, (2, 2), "generic", seed)
    assert_same_function(wider, model, chain)
    grads = gradients(wider, chain)
    assert all(np.isfinite(grad).all() for grad in grads.values())
    for k, old in enumerate(WIDE):  # the new outgoing entries of the first layer
        new = np.abs(grads[f"0.weight.{k}"][:, old:])
        assert (new.max(axis=(0, 2, 3)) > 1e-12).all()
        if k == 2:  # the last core of a product of which the others are not zero
            assert (np.abs(grads["0.bias.2"][:, :, old:]) > 1e-12).any()


def test_the_layers_that_follow_their_input():
    hidden = (4, 4, 4, 4)
    x = Chain(3, (2,) * 4, (2, 2, 2), "generic", 0)
    layers = [
        SketchGauge(hidden, 4),
        SVDGauge(),
        CoreNorm(0.5, "drop"),
        CoreNorm(2.0, "keep"),
        CoreNorm(1.0, "running"),
        Pointwise("sigmoid", normalize=False),
        Pointwise("relu"),
        Dropout(0.5),
        Polynomial(hidden, [0.0, 1.0, 0.5], 5),
        Elementwise("sin", ENOUGH),
        LayerNorm(hidden),
        LayerNorm(hidden, 6, 2, affine=True),
        LayerNorm(hidden, 6, affine=False),
        RMSNorm(0.3),
        KAN(hidden, share=True),
        KAN(hidden, odd=False, basis="radial"),
        Gated(hidden, hidden, 2, ENOUGH, offset=False, product="cross"),
    ]
    for layer in layers:
        model = make_network([], (2,) * 4, 2, 5, 1, None)
        model = ftnn.Sequential(
            ftnn.Linear((2,) * 4, hidden, 2, 5, seed=1), layer, ftnn.Readout(hidden, 3, 2)
        )
        assert_same_function(widen(model, 5), model, x)


def test_trees_and_maps_of_product_states():
    dims, product = (4,) * 4, Chain(3, (4,) * 4, (1, 1, 1), "generic", 0)
    tree = ftnn.Sequential(
        ftnn.Linear(dims, (3,) * 4, 2, 4),
        ftnn.Coarsen((3,) * 4, (5, 5), 3),
        ftnn.Readout((5, 5), 3, 2),
    )
    wider = widen(tree, 6)
    assert_same_function(wider, tree, product)
    assert [layer.in_dims for layer in wider.layers] == [dims, (6,) * 4, (6, 6)]
    assert_same_function(widen(tree, [7, 8], where="1"), tree, product)
    for first in (
        FeatureMap(dims, (3,) * 4, 5),
        ProductMap(dims, (3,) * 4, 2),
        BlockMap(dims, 3, 2, (4, 1), (1, 1)),
    ):
        model = ftnn.Sequential(
            first, FeatureMap((3,) * 4, (5,) * 4, 3, share=True), ftnn.Readout((5,) * 4, 3, 2)
        )
        assert_same_function(widen(model, 6), model, product)
        assert widen(model, 6, where="0").layers[1].out_dims == (5,) * 4
    blocks = ftnn.Sequential(FeatureMap(dims, (3,) * 4, 5), BlockMap((3,) * 4, 3, 2, (2, 2)))
    with pytest.raises(TypeError, match="input of BlockMap '1' would widen"):
        widen(blocks, 6)


def test_where_names_the_layer_whose_output_widens():
    model = ftnn.Sequential(
        ftnn.Linear(DIMS, WIDE, 1, 3),
        RMSNorm(),
        ftnn.Linear(WIDE, DIMS, 1, 3),
        ftnn.Linear(DIMS, DIMS, 1, 3),
    ).train()
    for where in ("0", "1", lambda m: m.layers[0], ["0", "1"]):
        wider = widen(model, 6, where)
        assert [layer.out_dims for layer in wider.layers] == [(6, 6, 6), None, DIMS, DIMS]
        assert wider.training
        assert wider.layers[1].mean_dims == WIDE
    assert widen(model, (3, 5, 4), ["0"]).layers[2].in_dims == (3, 5, 4)
    frozen = freeze(model, "3")
    assert widen(frozen, 6, "0").layers[3].frozen
    with pytest.raises(ValueError, match=r"array '3.weight.0' is frozen"):
        widen(frozen, 6, "2")


TIED = ftnn.Sequential(
    ftnn.Residual(ftnn.Linear(DIMS, DIMS, 1, 2), 2),
    ftnn.Linear(DIMS, WIDE, 1, 2),
    Elementwise("sigmoid", 2),
    ftnn.Readout(WIDE, 2, 1),
)


@pytest.mark.parametrize(
    ("model", "phys_dims", "where", "error", "words"),
    [
        (
            TIED,
            3,
            "1",
            ValueError,
            r"phys_dims is 3, but there are states of dimensions",
        ),
        (TIED, [5, 5], "1", ValueError, r"phys_dims has 2 sites, but the states"),
        (TIED, 0, "1", ValueError, "phys_dims is 0, expected a positive integer"),
        (TIED, 5, "0", ValueError, "whose output has the dimensions of the input of the model"),
        (TIED, 5, "0.layer", ValueError, "has the dimensions of the input"),
        (TIED, 5, "3", ValueError, "where is '3', a Readout, whose outputs have no sites"),
        (TIED, 5, "1", ValueError, "Elementwise '2' maps 0 to 0.5"),
        (TIED, 5, "x", ValueError, "where is 'x', but the model has the layers"),
        (TIED.layers[0], 5, None, ValueError, "the model has no hidden states"),
        (3, 5, None, TypeError, "model is a int"),
    ],
)
def test_what_cannot_widen_is_named(model, phys_dims, where, error, words):
    with pytest.raises(error, match=words):
        widen(model, phys_dims, where)


def test_a_layer_norm_without_test_matrices_of_its_own():
    hidden = (3, 3, 3)
    layers = [ftnn.Linear(DIMS, hidden, 1, 2), LayerNorm(hidden), KAN(hidden)]
    model = ftnn.Sequential(*layers, ftnn.Readout(hidden, 2, 1))
    with pytest.raises(ValueError, match="LayerNorm '1' has no max_bond and draws its gauge"):
        widen(model, 4)


@pytest.mark.parametrize(
    "make",
    [
        lambda m: KAN(DIMS, mean_dims=m),
        lambda m: RMSNorm(0.0, DIMS, mean_dims=m),
        lambda m: LayerNorm(DIMS, mean_dims=m),
        lambda m: Pointwise("tanh", mean_dims=m)(Chain(2, DIMS, (1, 1), "generic", 0).mps()),
        lambda m: RMSNorm(mean_dims=m)(Chain(2, DIMS, (1, 1), "generic", 0).mps()),
        lambda m: CoreNorm(mean_dims=m)(Chain(2, DIMS, (1, 1), "generic", 0).mps()),
    ],
)
def test_means_are_over_some_of_the_channels(make):
    make(DIMS)
    for mean_dims in ((2, 4, 2), (2, 3)):
        with pytest.raises(ValueError, match="expected a number from 1 to the dimension for each"):
            make(mean_dims)
    with pytest.raises(ValueError, match="mean_dims is"):
        make((2, 0, 2))
