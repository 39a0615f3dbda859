"""Laws of deepen: a layer near the identity changes nothing and learns; copies repeat."""

import numpy as np
import pytest
from growth_laws import (
    ENOUGH,
    REAL,
    arrays_of,
    assert_apart,
    assert_close,
    assert_same_function,
    assert_unchanged,
    gradients,
    make_network,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import Chain

import ftnn
from ftnn.growth import deepen, deepened_paths, identity
from ftnn.layers.surgery import parameter_map
from ftnn.nonlinear import RMSNorm

DIMS = (2, 3, 2)
WIDE = (3, 4, 3)


@settings(max_examples=25)
@given(
    st.lists(st.sampled_from(REAL), max_size=2),
    st.integers(0, 99),
    st.integers(1, 4),
    st.sampled_from([ENOUGH, 3]),
)
def test_an_identity_in_the_gauge_of_the_layer_before_changes_nothing(kinds, seed, bond, max_bond):
    """Also before functions of cores, and where the layer before truncates."""
    model = make_network(kinds, DIMS, 2, max_bond, seed)
    before = arrays_of(model)
    layer = identity(WIDE, bond, gauge=model.layers[0], seed=seed)
    own = arrays_of(layer)
    deeper = deepen(model, layer, after="0")
    assert_unchanged(model, before)
    assert_unchanged(layer, own)
    assert_apart(model, deeper)
    assert_apart(layer, deeper)
    chain = Chain(3, DIMS, (2, 2), "generic", seed)
    assert_same_function(deeper, model, chain)
    paths = deepened_paths(model, "0")
    blocks = parameter_map(model, deeper, paths)
    assert sorted(block.name for block in blocks.values()) == sorted(model.named_params())
    for name, block in blocks.items():
        np.testing.assert_array_equal(deeper.named_params()[name], before[block.name])


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_dtypes_and_gradients(dtype):
    kinds = ["residual", "rms"]
    model = make_network(kinds, DIMS, 2, ENOUGH, 3, "expectation", dtype)
    layer = identity(WIDE, 3, gauge=model.layers[0])
    moved = deepen(model, identity(WIDE, max_bond=2), "0")
    assert {array.dtype.name for array in moved.named_arrays().values()} == {dtype}
    assert {array.dtype.name for array in layer.named_arrays().values()} == {dtype}
    deeper = deepen(model, layer, "0")
    chain = Chain(4, DIMS, (2, 2), "generic", 0)
    assert_same_function(deeper, model, chain, dtype)
    grads = gradients(deeper, chain, dtype)
    for k, side in enumerate([slice(None), slice(1, None), slice(1, None)]):
        assert (np.abs(grads[f"1.weight.{k}"][side]) > 0).any()
    assert (np.abs(grads["1.bias.2"]) > 0).all()


def test_a_copy_repeats():
    """U(2t) = U(t)^2."""
    step = ftnn.Linear(DIMS, DIMS, 2, ENOUGH, bias=False, seed=1)
    model = ftnn.Sequential(step)
    twice = deepen(model, step, after=lambda m: m.layers[0])
    x = Chain(3, DIMS, (2, 2), "generic", 0).mps()
    assert_close(twice(x), step(step(x)))
    assert_apart(model, twice)
    assert_apart(step, twice)
    alone = deepen(step, step, after="")
    assert_close(alone(x), step(step(x)))
    assert deepened_paths(step, "") == {"0": "", "1": "(new)"}
    blocks = parameter_map(step, alone, deepened_paths(step, ""))
    assert {name: block.name for name, block in blocks.items()} == {
        f"0.weight.{k}": f"weight.{k}" for k in range(3)
    }


def test_within_a_residual_and_at_the_end_of_a_sequential():
    model = make_network(["residual"], DIMS, 2, ENOUGH, 0).train()
    x = Chain(3, DIMS, (2, 2), "generic", 0)
    inner = deepen(model, identity(WIDE, max_bond=ENOUGH), after="1.layer.0")
    assert [type(p).__name__ for p in inner.layers[1].children["layer"].layers] == [
        "Linear",
        "Linear",
        "RMSNorm",
    ]
    assert_same_function(inner, model, x)
    end = deepen(model, identity(WIDE, max_bond=ENOUGH), after="1.layer")
    assert isinstance(end.layers[1].children["layer"].layers[2], ftnn.Linear)
    assert_same_function(end, model, x)
    assert deepened_paths(model, "1.layer") == {"1.layer.2": "(new)"}
    plain = ftnn.Residual(ftnn.Linear(DIMS, DIMS, 2, 4), 4)
    wrapped = deepen(plain, RMSNorm(), after="layer")
    assert isinstance(wrapped.children["layer"], ftnn.Sequential)
    assert deepened_paths(plain, "layer") == {"layer.0": "layer", "layer.1": "(new)"}
    assert all(layer.training for _, layer in inner.walk())


@pytest.mark.parametrize(
    ("layer", "after", "error", "words"),
    [
        (
            identity((2, 2, 2), max_bond=2),
            "0",
            ValueError,
            r"takes phys_dims \(2, 2, 2\), but",
        ),
        (
            ftnn.Linear(WIDE, DIMS, 1, 1),
            "0",
            ValueError,
            r"returns phys_dims \(2, 3, 2\), but",
        ),
        (ftnn.Readout(WIDE, 2, 1), "0", ValueError, "layer is a Readout, but there are layers"),
        (RMSNorm(), "2", ValueError, "after is '2', a Readout, whose outputs have no sites"),
        (RMSNorm(), "7", ValueError, "where is '7', but the model has the layers"),
        ("RMSNorm", "0", TypeError, "layer is a str, expected"),
    ],
)
def test_what_does_not_fit_is_named(layer, after, error, words):
    with pytest.raises(error, match=words):
        deepen(make_network(["kan"], DIMS, 2, 3, 0), layer, after)


def test_identities_need_a_bond_and_a_gauge_of_their_dimensions():
    with pytest.raises(ValueError, match="neither max_bond nor gauge is given"):
        identity(DIMS)
    with pytest.raises(ValueError, match="gauge is a Linear with test matrices of 2 sites"):
        identity(DIMS, gauge=ftnn.Linear(DIMS, WIDE, 1, 2))
