"""Laws of merge: one layer for two, the same function where nothing is cut."""

import numpy as np
import pytest
from growth_laws import (
    ENOUGH,
    arrays_of,
    assert_apart,
    assert_close,
    assert_same_function,
    assert_unchanged,
    moved,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import Chain, dense_operator

import ftnn
from ftnn.growth import deepen, freeze, identity, merge
from ftnn.nonlinear import KAN, RMSNorm

DIMS, WIDE = (2, 3, 2), (3, 2, 3)


def pair(seed, bonds=(2, 3), biases=(True, True), max_bond=ENOUGH, head=False, dims=DIMS):
    wide = tuple(d + 1 for d in dims)
    first = ftnn.Linear(dims, wide, bonds[0], ENOUGH, biases[0], seed=seed, bias_bond=1 + biases[0])
    if head:
        second = ftnn.Readout(wide, 4, bonds[1], seed + 1, biases[1])
    else:
        second = ftnn.Linear(wide, dims, bonds[1], max_bond, biases[1], seed=seed + 1)
    return [first, second]


@settings(max_examples=40)
@given(
    st.integers(0, 99),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.booleans(), st.booleans()),
    st.booleans(),
    st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple),
    st.sampled_from(["float64", "float32", "complex128"]),
)
def test_the_product_is_the_same_function(seed, bonds, biases, head, dims, dtype):
    """Also in the gauge that a function of cores behind it sees, with a truncated output."""
    # in single precision a truncating sketch amplifies the rounding too much to compare
    layers = pair(seed, bonds, biases, ENOUGH if dtype == "float32" else 3, head, dims)
    real = "complex" not in dtype and not head
    behind = [KAN(dims, seed=seed)] if real else []
    model = moved(ftnn.Sequential(RMSNorm(), *layers, *behind), seed, dtype)
    before = arrays_of(model)
    merged = merge(model, "1", "2")
    assert_unchanged(model, before)
    assert_apart(model, merged)
    assert len(merged.layers) == len(model.layers) - 1
    assert {a.dtype.name for a in merged.named_arrays().values()} == {dtype}
    chain = Chain(3, dims, (2,) * (len(dims) - 1), "generic", seed)
    assert_same_function(merged, model, chain, dtype)


def test_the_product_is_that_of_the_matrices_and_truncation_that_of_the_svd():
    layers = pair(1, (3, 3), (False, False))
    a, b = (dense_operator(layer.operators()["weight"]) for layer in layers)
    model = ftnn.Sequential(*layers)
    weight = merge(model, lambda m: m.layers[0], "1").layers[0].operators()["weight"]
    np.testing.assert_allclose(dense_operator(weight), b @ a, atol=1e-12)
    cut = merge(model, "0", "1", max_bond=2).layers[0]
    assert cut.bond_dim == (2, 2)
    best = [np.linalg.svd(m, compute_uv=False)[2:] for m in _unfoldings(b @ a, DIMS)]
    error = np.linalg.norm(dense_operator(cut.operators()["weight"]) - b @ a)
    lost = [np.linalg.norm(s) for s in best]
    assert max(lost) <= error <= np.linalg.norm(lost) * (1 + 1e-9)
    loose = merge(model, "0", "1", rtol=0.3).layers[0]
    error = np.linalg.norm(dense_operator(loose.operators()["weight"]) - b @ a)
    assert 0 < error <= 0.3 * np.linalg.norm(b @ a)
    assert merge(model, "0", "1", max_bond=[1, 3]).layers[0].bond_dim == (1, 3)


def _unfoldings(matrix, dims):
    """Matrices of an operator of three sites across each cut."""
    x = matrix.reshape(*dims, *dims).transpose(0, 3, 1, 4, 2, 5)
    sizes = [d * d for d in dims]
    return [x.reshape(np.prod(sizes[:k]), -1) for k in (1, 2)]


def test_a_merged_identity_leaves_the_bond_alone():
    model = moved(ftnn.Sequential(ftnn.Linear(DIMS, WIDE, 2, ENOUGH)), 0)
    deeper = deepen(model, identity(WIDE, 4, gauge=model.layers[0]), "0")
    again = merge(deeper, "0", "1")
    assert again.layers[0].bond_dim == (2, 2)
    assert_same_function(again, model, Chain(3, DIMS, (2, 2), "generic", 0))


def test_a_bias_of_zero_can_still_be_trained():
    """Cores of zeros only would have no gradient."""
    merged = merge(ftnn.Sequential(*pair(0)), "0", "1").layers[0]
    assert merged.bias_bond == 1
    assert all(merged.params[f"bias.{k}"].any() for k in (0, 1))
    assert not merged.params["bias.2"].any()


def test_torch_and_nested_layers():
    model = ftnn.Sequential(
        ftnn.Residual(ftnn.Sequential(*pair(0), RMSNorm()), 4), ftnn.Readout(DIMS, 3, 2)
    )
    chain = Chain(3, DIMS, (2, 2), "generic", 0)
    expected = model(chain.mps())
    merged = merge(model.to("torch"), "0.layer.0", "0.layer.1")
    assert_close(merged(chain.mps(backend="torch")), expected)
    assert len(merged.layers[0].children["layer"].layers) == 2


@pytest.mark.parametrize(
    ("a", "b", "options", "error", "words"),
    [
        ("0", "2", {}, TypeError, "b is '2', a RMSNorm, expected a Linear or Readout"),
        ("4", "1", {}, TypeError, "a is '4', a Readout, expected a Linear"),
        ("1", "0", {}, ValueError, "a is '1' and b is '0', expected two layers of a Sequential"),
        ("0", "3", {}, ValueError, "right behind the first"),
        ("0", "7", {}, ValueError, "where is '7', but the model has the layers"),
        ("0", "1", {"max_bond": 0}, ValueError, "max_bond is 0, expected a positive integer"),
        ("0", "1", {"rtol": 1.0}, ValueError, r"rtol is 1.0, expected a number in \[0, 1\)"),
    ],
)
def test_what_cannot_be_merged_is_named(a, b, options, error, words):
    model = ftnn.Sequential(
        *pair(0), RMSNorm(), ftnn.Linear(DIMS, DIMS, 1, 2), ftnn.Readout(DIMS, 2, 2)
    )
    with pytest.raises(error, match=words):
        merge(model, a, b, **options)


def test_frozen_layers_are_not_merged():
    model = freeze(ftnn.Sequential(*pair(0)), "1.weight.0")
    with pytest.raises(ValueError, match="b is '1', which has frozen arrays; thaw them first"):
        merge(model, "0", "1")
