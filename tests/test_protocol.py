"""The protocol of layers: every class keeps its arguments, tells its operators and its scale."""

import math

import numpy as np
import pytest
from catalogue import trained
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import Chain, assert_close, chains, dense, dense_operator
from nonlinear_layers import LAYERS

import ftnn
from ftnn.layers.calibration import update_grids
from ftnn.layers.signature import construct
from ftnn.nonlinear import KAN, Dropout, FeatureMap, Gated, LayerNorm, RMSNorm

DIMS = (3, 2, 4, 2)
OPERATORS = {
    "Linear": lambda dims: ftnn.Linear(dims, dims[::-1], 2, 40, bias=False),
    "Linear with a bias": lambda dims: trained(ftnn.Linear(dims, dims, 2, 40)),
    "Coarsen": lambda dims: ftnn.Coarsen(dims, (3,), 2),
    "Gated": lambda dims: Gated(dims, dims, 2, 40, inner_bond=40),
    "bilinear": lambda dims: Gated(dims, dims, 2, 40, inner_bond=40, offset=False),
    "Readout": lambda dims: ftnn.Readout(dims, 3, 2),
    "Expectation": lambda dims: ftnn.Expectation(dims, 3, 2),
}
OTHERS = {
    "Residual": lambda dims: ftnn.Residual(ftnn.Linear(dims, dims, 2, 3), 4),
    "Residual with a shortcut": lambda dims: ftnn.Residual(
        ftnn.Linear(dims, dims[::-1], 2, 3), 4, shortcut=ftnn.Linear(dims, dims[::-1], 1, 2)
    ),
    "Sequential": lambda dims: ftnn.Sequential(RMSNorm(), ftnn.Readout(dims, 3, 2)),
    "Dropout": lambda dims: Dropout(0.1),
    "FeatureMap": lambda dims: FeatureMap((3,) * len(dims), (4,) * len(dims), 5, "tanh"),
    "LayerNorm, exact": lambda dims: LayerNorm(dims),
}
ALL = LAYERS | OPERATORS | OTHERS


def values(output):
    return dense(output) if isinstance(output, tuple) else output


@pytest.mark.parametrize("name", ALL)
def test_a_layer_is_made_again_from_its_arguments(name):
    layer = ALL[name](DIMS)
    again = construct(type(layer), layer.children, layer.config())
    assert repr(again) == repr(layer)
    assert again.config() == layer.config()
    shapes = [{k: v.shape for k, v in x.named_arrays().items()} for x in (layer, again)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", OPERATORS)
@settings(max_examples=8)
@given(chains(2, 5, kinds=("generic",)), st.floats(-30.0, 30.0))
def test_rescaling_multiplies_the_output(name, chain, log_factor):
    layer, cores = OPERATORS[name](chain.dims), tuple(chain.cores())
    before = values(layer.apply(cores))
    layer.rescale(log_factor)
    assert_close(values(layer.apply(cores)) * math.exp(-log_factor), before, condition=1e5)


@pytest.mark.parametrize("name", sorted(ALL.keys() - OPERATORS.keys() - {"gated"}))
def test_a_layer_without_a_scale_stays_as_it_is(name):
    layer = ALL[name](DIMS)
    before = {key: array.copy() for key, array in layer.named_arrays().items()}
    layer.rescale(1.0)
    assert layer.operators() == {}
    for key, array in layer.named_arrays().items():
        np.testing.assert_array_equal(array, before[key])


@pytest.mark.parametrize("name", OPERATORS)
def test_dense_parameters_are_counted_as_those_of_the_dense_matrices(name):
    layer = OPERATORS[name](DIMS)
    matrices = [dense_operator(cores) for cores in layer.operators().values()]
    bias = math.prod(DIMS) if name == "Linear with a bias" else 0
    assert layer.dense_params() == sum(matrix.size for matrix in matrices) + bias


def test_calibration_reaches_every_layer():
    x = Chain(7, DIMS, (3, 3, 2), "generic", 0).mps()  # an odd number has a median
    inner = ftnn.Sequential(ftnn.Linear(DIMS, DIMS, 2, 4), Gated(DIMS, DIMS, 2, 4, seed=1))
    model = ftnn.Sequential(
        ftnn.Residual(inner, 5),
        ftnn.Sequential(ftnn.Coarsen(DIMS, (3, 3), 2)),
        ftnn.Readout((3, 3), 2, 2),
    )
    for _, layer in model.walk():
        layer.rescale(7.0)
    ftnn.calibrate(model, x.cores)
    sizes = {}
    for step in ftnn.interpret.trace(model, x.cores):
        if step.layer.operators():
            squares = np.mean(np.abs(values(step.output)) ** 2, axis=1)
            head = not isinstance(step.output, tuple)
            sizes[step.path] = np.sqrt(squares.mean() if head else np.median(squares))
    assert sizes.keys() == {"0.layer.0", "0.layer.1", "1.0", "2"}
    np.testing.assert_allclose(list(sizes.values()), 1.0, rtol=1e-9)
    before = model(x)
    ftnn.calibrate(model, x.cores)
    np.testing.assert_allclose(model(x), before, rtol=1e-10)


def test_calibration_of_zeros_changes_nothing():
    model = ftnn.Sequential(ftnn.Linear(DIMS, DIMS, 2, 4), ftnn.Readout(DIMS, 2, 2))
    before = {key: array.copy() for key, array in model.named_arrays().items()}
    ftnn.calibrate(model, tuple(np.zeros((3, 1, p, 1)) for p in DIMS))
    for key, array in model.named_arrays().items():
        np.testing.assert_array_equal(array, before[key])


def test_grids_are_updated_inside_other_layers():
    x = Chain(30, DIMS, (2, 2, 2), "generic", 0).mps()
    kan = KAN(DIMS, basis="spline")
    before = kan.buffers["knots.1"].copy()
    update_grids(
        ftnn.Sequential(ftnn.Residual(ftnn.Sequential(RMSNorm(phys_dims=DIMS), kan), 3)), x.cores
    )
    assert not np.allclose(kan.buffers["knots.1"], before)
    assert not KAN(DIMS).has_grid
    with pytest.raises(ValueError, match="RMSNorm has no grid"):
        RMSNorm().update_grid(x.cores)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (
            ftnn.Linear((4, 4, 4), (5, 5, 5), 3, 8),
            "Linear((4, 4, 4) -> (5, 5, 5), bond_dim=3, max_bond=8)",
        ),
        (RMSNorm(), "RMSNorm()"),
        (RMSNorm(1e-3, (2, 2)), "RMSNorm((2, 2), eps=0.001)"),
        (KAN((4,) * 40, basis="radial"), "KAN((4,) * 40, basis='radial')"),
        (ftnn.nonlinear.Pointwise("relu", residual=True), "Pointwise(fn='relu', residual=True)"),
        (ftnn.nonlinear.Pointwise(np.tanh), "Pointwise(fn=tanh)"),
        (
            ftnn.Sequential(RMSNorm(), ftnn.Residual(ftnn.Linear((2, 2), (2, 2), 1, 2), 3)),
            "Sequential(\n"
            "  (0): RMSNorm()\n"
            "  (1): Residual(\n"
            "    max_bond=3\n"
            "    (layer): Linear((2, 2) -> (2, 2), bond_dim=1, max_bond=2)\n"
            "  )\n"
            ")",
        ),
    ],
)
def test_layers_say_what_they_are(layer, words):
    assert repr(layer) == words


def test_a_summary_has_a_row_for_every_layer_with_something_to_tell():
    inner = ftnn.Sequential(ftnn.Linear(DIMS, DIMS, 2, 3, bias=False), RMSNorm())
    model = ftnn.Sequential(ftnn.Residual(inner, 4), ftnn.Readout(DIMS, 5, 2))
    first, _, *rows, _, last = model.summary().splitlines()
    assert first.split() == [
        "path",
        "type",
        "dims",
        "weight",
        "bond",
        "max",
        "bond",
        "params",
        "dense",
        "params",
    ]
    assert [row.split()[:2] for row in rows] == [
        ["0", "Residual"],
        ["0.layer.0", "Linear"],
        ["0.layer.1", "RMSNorm"],
        ["1", "Readout"],
    ]
    linear, readout = inner.layers[0].num_params(), model.layers[1].num_params()
    assert rows[1].split()[-4:] == ["2", "3", str(linear), "2,304"]
    assert rows[3].split()[-4:] == ["5", "2", str(readout), "240"]
    ratio = 2544 / (linear + readout)
    assert last == (
        f"{linear + readout} parameters; 2,544 as dense matrices, {ratio:.1f} times as many"
    )


def test_the_summary_of_an_astronomic_model_is_finite():
    dims = (10,) * 500
    model = ftnn.Sequential(ftnn.Linear(dims, dims, 1, 1, bias=False))
    assert model.summary().endswith("1.0e1000 as dense matrices, 2.0e995 times as many")


def test_notebooks_show_the_picture_and_the_table(monkeypatch):
    pytest.importorskip("matplotlib")
    model = ftnn.Sequential(ftnn.Linear(DIMS, DIMS, 2, 3), ftnn.Readout(DIMS, 2, 2))
    page = model._repr_html_()
    assert page.startswith("<svg")
    assert page.count("<svg") == 1
    assert "Linear" in page[page.index("<pre>") :]
    assert "-&gt;" in page  # escaped
    assert RMSNorm()._repr_html_().startswith("<pre>")  # no dimensions to draw

    def missing(*_):
        raise ImportError("matplotlib")

    monkeypatch.setattr("ftnn.plotting.network_svg", missing)
    assert model._repr_html_().startswith("<pre>")


def test_torch_modules_say_what_they_hold():
    pytest.importorskip("torch")
    from ftnn.training import TorchModule

    assert repr(TorchModule(ftnn.Readout((2, 2), 3, 2))) == (
        "TorchModule(Readout((2, 2), num_outputs=3, bond_dim=2))"
    )


MANY = (4,) * 40


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ftnn.Readout(MANY, 2, 10**6), "bond_dim asks for .* of arrays"),
        (lambda: ftnn.Expectation(MANY, 2, 10**6), "bond_dim asks for"),
        (lambda: ftnn.Linear(MANY, MANY, 10**9, 2), "bond_dim or max_bond asks for"),
        (lambda: ftnn.Linear(MANY, MANY, 2, 10**10), "bond_dim or max_bond asks for"),
        (lambda: ftnn.Linear((10**6,) * 4, (10**6,) * 4, 2, 2), "of arrays, the largest of shape"),
        (lambda: Gated(MANY, MANY, 2, 2, inner_bond=10**10), "inner_bond asks for"),
        (lambda: ftnn.Coarsen(MANY, (2, 2), 10**9), "bond_dim asks for"),
        (lambda: ftnn.nonlinear.SketchGauge(MANY, 10**10), "max_bond asks for"),
        (lambda: ftnn.nonlinear.Polynomial(MANY, [1, 1], 10**10), "max_bond asks for"),
        (lambda: ftnn.Residual(ftnn.Linear(MANY, MANY, 1, 1), 10**10), "max_bond asks for"),
        (lambda: LayerNorm(MANY, bond_dim=10**7), "bond_dim or max_bond asks for"),
        (lambda: KAN((2, 2), grid=10**12), "phys_dims or grid asks for"),
        (lambda: FeatureMap((2, 2), (2, 2), 10**12), "hidden asks for"),
        (lambda: ftnn.nonlinear.Elementwise("tanh", 4, sweeps=10**9), "expected at most 1000"),
    ],
)
def test_what_would_not_fit_is_told_before_it_is_made(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("name", ["Linear", "Gated", "SketchGauge", "Residual", "Polynomial"])
def test_bonds_beyond_what_dims_allow_are_cut(name):
    dims, x = (2, 3, 2), Chain(3, (2, 3, 2), (2, 2), "generic", 1).mps()
    make = {
        "Linear": lambda bond: ftnn.Linear(dims, dims, bond, bond),
        "Gated": lambda bond: Gated(dims, dims, bond, bond),
        "SketchGauge": lambda bond: ftnn.nonlinear.SketchGauge(dims, bond),
        "Residual": lambda bond: ftnn.Residual(ftnn.Linear(dims, dims, 2, 2), bond),
        "Polynomial": lambda bond: ftnn.nonlinear.Polynomial(dims, [0, 1, 1], bond),
    }[name]
    np.testing.assert_array_equal(make(10**9)(x).to_dense(), make(30)(x).to_dense())
