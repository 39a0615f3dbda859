"""Figures: drawn for every shape of input, without warnings, display or global state."""

import math
import sys
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

import ftnn
from ftnn.experiments.fashion_mnist.data import FASHION_CLASSES
from ftnn.interpret.report import entanglement_report, layer_report
from ftnn.plotting import (
    plot_bonds,
    plot_confusion,
    plot_curves,
    plot_entanglement,
    plot_functions,
    plot_network,
    plot_spectra,
)
from ftnn.plotting.network import _columns
from ftnn.plotting.style import whole_ticks


def model(L, residual=True):
    dims, hidden = (3,) * L, (4,) * L
    inner = ftnn.Linear(hidden, hidden, bond_dim=2, max_bond=3, seed=2)
    return ftnn.Sequential(
        ftnn.Linear(dims, hidden, bond_dim=2, max_bond=3, seed=0),
        ftnn.nonlinear.KAN(hidden, seed=1),
        ftnn.nonlinear.RMSNorm(),
        ftnn.Residual(inner, max_bond=3, seed=3) if residual else inner,
        ftnn.Readout(hidden, num_outputs=3, bond_dim=2, seed=4),
    )


def cores(L):
    rng = np.random.default_rng(0)
    shape = [(8, 1 if k == 0 else 2, 3, 1 if k == L - 1 else 2) for k in range(L)]
    return tuple(rng.standard_normal(s) for s in shape)


def metrics(epochs, **more):
    return [
        {
            "epoch": epoch,
            "train_loss": math.exp(-epoch),
            "val_loss": math.exp(-epoch / 2),
            "train_accuracy": 1 - math.exp(-epoch),
            "val_accuracy": 1 - math.exp(-epoch / 2),
            "truncation_error": {"0": 0.1, "3.layer": 0.2 / epoch},
            "entropies": {"0": [0.1, 0.2], "3.layer": [0.1 * epoch, 0.1]},
        }
        | more
        for epoch in range(1, epochs + 1)
    ]


def checked_picture(path):
    """Pixels of a figure: large enough to print, and not empty."""
    image = Image.open(path)
    assert image.format == "PNG"
    assert min(image.size) > 300
    assert image.info["dpi"][0] >= 150
    pixels = np.asarray(image.convert("L"))
    assert 0.005 < np.mean(pixels < 250) < 0.9
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert edge.min() > 250  # nothing is cut off
    return pixels


@pytest.mark.parametrize(
    "records",
    [
        metrics(1),
        metrics(40),
        metrics(3, truncation_error=None),
        metrics(3, val_loss=None, val_accuracy=None),
        metrics(3, train_loss=float("nan")),
    ],
)
def test_curves(tmp_path, records):
    plot_curves(records, tmp_path / "curves.png")
    checked_picture(tmp_path / "curves.png")


def test_curves_show_the_numbers(tmp_path):
    plot_curves(metrics(5), tmp_path / "a.png")
    plot_curves(metrics(5, val_loss=0.5), tmp_path / "b.png")
    assert not np.array_equal(
        checked_picture(tmp_path / "a.png"), checked_picture(tmp_path / "b.png")
    )


def test_no_epoch_no_curves(tmp_path):
    with pytest.raises(ValueError, match="metrics is empty"):
        plot_curves([], tmp_path / "curves.png")


@pytest.mark.parametrize("names", [tuple("0123456789"), FASHION_CLASSES, ("no", "yes")])
def test_confusion(tmp_path, names):
    rng = np.random.default_rng(0)
    matrix = rng.integers(0, 3, (len(names),) * 2) + 30 * np.eye(len(names), dtype=int)
    plot_confusion(matrix, names, tmp_path / "confusion.png")
    checked_picture(tmp_path / "confusion.png")


def test_confusion_of_a_class_never_seen(tmp_path):
    plot_confusion(np.array([[0, 0], [1, 2]]), ("a", "b"), tmp_path / "confusion.png")
    with pytest.raises(ValueError, match=r"shape \(2, 2\), but there are 3"):
        plot_confusion(np.eye(2, dtype=int), ("a", "b", "c"), tmp_path / "confusion.png")


@pytest.mark.parametrize("L", [2, 5, 30])
def test_bonds(tmp_path, L):
    plot_bonds(layer_report(model(L), cores(L)), tmp_path / "bonds.png")
    checked_picture(tmp_path / "bonds.png")


def test_bonds_of_dead_states(tmp_path):
    dead = tuple(0.0 * core for core in cores(4))
    plot_bonds(layer_report(model(4), dead), tmp_path / "bonds.png")
    checked_picture(tmp_path / "bonds.png")


def test_one_site_has_no_bonds(tmp_path):
    with pytest.raises(ValueError, match="no layer has bonds"):
        plot_bonds(layer_report(model(1), cores(1)), tmp_path / "bonds.png")


@pytest.mark.parametrize("L", [2, 5, 30])
def test_spectra(tmp_path, L):
    plot_spectra(layer_report(model(L), cores(L)), tmp_path / "spectra.png")
    checked_picture(tmp_path / "spectra.png")


def test_one_site_has_no_spectra(tmp_path):
    with pytest.raises(ValueError, match="no layer has bonds"):
        plot_spectra(layer_report(model(1), cores(1)), tmp_path / "spectra.png")


@pytest.mark.parametrize("L", [1, 2, 8, 49])
@pytest.mark.parametrize("residual", [True, False])
def test_network(tmp_path, L, residual):
    plot_network(model(L, residual), tmp_path / "network.png")
    checked_picture(tmp_path / "network.png")


@pytest.mark.parametrize(("offset", "words"), [(True, "(1 + Ax) ⊙ Bx"), (False, "Ax ⊙ Bx")])
def test_what_multiplies_vectors_is_no_function_of_cores(tmp_path, monkeypatch, offset, words):
    figures = []
    monkeypatch.setattr("ftnn.plotting.network.save_figure", lambda fig, _: figures.append(fig))
    gated = ftnn.nonlinear.Gated((2,) * 3, (2,) * 3, bond_dim=3, max_bond=[4, 5], offset=offset)
    plot_network(gated, tmp_path / "network.png")
    texts = [text.get_text() for text in figures[0].axes[0].texts]
    assert f"{words}, p = 2, D = 3" in texts
    assert "truncate to χ ≤ 5" in texts
    assert not any("on every core" in text for text in texts)


def test_every_format_and_single_layers(tmp_path):
    plot_network(ftnn.Linear((2, 2), (3, 5), bond_dim=2, max_bond=2), tmp_path / "network.svg")
    assert "<svg" in (tmp_path / "network.svg").read_text()
    with pytest.raises(ValueError, match="no in_dims"):
        plot_network(ftnn.nonlinear.RMSNorm(), tmp_path / "network.png")


@pytest.mark.parametrize("L", range(1, 60))
def test_columns_hold_both_ends_and_the_middle(L):
    sites = [site for site in _columns(L) if site is not None]
    assert sites == sorted(set(sites))
    assert {0, L // 2, L - 1} <= set(sites)
    assert len(_columns(L)) <= 8
    gaps = [b - a for a, b in pairwise(sites)]
    assert all(gap == 1 for gap in gaps) == (None not in _columns(L))


@pytest.mark.parametrize("L", [2, 5])
@pytest.mark.parametrize("classes", [2, 12])
def test_entanglement(tmp_path, L, classes):
    names = [f"class {n}" for n in range(classes)]
    rows = entanglement_report(model(L), cores(L), np.arange(8) % 3, classes)
    plot_entanglement(rows, names, tmp_path / "entanglement.png")
    checked_picture(tmp_path / "entanglement.png")
    plot_entanglement(rows[:1], names, tmp_path / "entanglement.png")
    checked_picture(tmp_path / "entanglement.png")
    with pytest.raises(ValueError, match="1 class_names"):
        plot_entanglement(rows, ["one"], tmp_path / "entanglement.png")


def test_one_site_has_no_entanglement(tmp_path):
    rows = entanglement_report(model(1), cores(1), np.zeros(8, int), 1)
    with pytest.raises(ValueError, match="one site"):
        plot_entanglement(rows, ["one"], tmp_path / "entanglement.png")


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_functions_of_a_kan(tmp_path, backend):
    layer = ftnn.nonlinear.KAN((3, 4), out_dims=(5, 2), basis="spline")
    layer.to(backend, "float32")
    for site in (0, 1):
        plot_functions(layer, tmp_path / "functions.png", site)
        checked_picture(tmp_path / "functions.png")


def test_functions_of_anything_else_are_refused(tmp_path):
    layer = ftnn.nonlinear.KAN((3, 4))
    with pytest.raises(TypeError, match="layer is a RMSNorm; only a KAN"):
        plot_functions(ftnn.nonlinear.RMSNorm(), tmp_path / "functions.png")
    with pytest.raises(ValueError, match="site is 2; the layer has sites 0 to 1"):
        plot_functions(layer, tmp_path / "functions.png", site=2)
    with pytest.raises(ValueError, match=r"extent is 0\.0"):
        plot_functions(layer, tmp_path / "functions.png", extent=0.0)


def coarsened(L, blocks):
    dims, hidden = (3,) * L, (4,) * blocks
    return ftnn.Sequential(
        ftnn.nonlinear.FeatureMap((5,) * L, dims, hidden=2),
        ftnn.nonlinear.Dropout(0.1),
        ftnn.Coarsen(dims, hidden, bond_dim=2),
        ftnn.Linear(hidden, hidden, bond_dim=2, max_bond=2),
        ftnn.Readout(hidden, num_outputs=3, bond_dim=2),
    )


@pytest.mark.parametrize(("L", "blocks"), [(6, 3), (6, 6), (49, 7), (60, 30)])
@pytest.mark.parametrize("product", [True, False])
def test_chains_that_become_shorter(tmp_path, L, blocks, product):
    network = coarsened(L, blocks)
    if product:
        x = tuple(1.0 + np.random.default_rng(0).random((8, 1, 5, 1)) for _ in range(L))
    else:
        network, x = ftnn.Sequential(*network.layers[2:]), cores(L)
    report = layer_report(network, x)
    states = entanglement_report(network, x, np.arange(8) % 2, 2)
    plot_network(network, tmp_path / "network.png")
    plot_bonds(report, tmp_path / "bonds.png")
    plot_spectra(report, tmp_path / "spectra.png")
    plot_entanglement(states, ["a", "b"], tmp_path / "entanglement.png")
    for name in ("network", "bonds", "spectra", "entanglement"):
        checked_picture(tmp_path / f"{name}.png")


def test_products_all_along_are_drawn(tmp_path):
    layers = coarsened(6, 3).layers
    network = ftnn.Sequential(*layers[:3], layers[-1])
    x = tuple(1.0 + np.random.default_rng(0).random((8, 1, 5, 1)) for _ in range(6))
    plot_bonds(layer_report(network, x), tmp_path / "bonds.png")
    plot_spectra(layer_report(network, x), tmp_path / "spectra.png")
    rows = entanglement_report(network, x, np.zeros(8, int), 1)
    plot_entanglement(rows, ["one"], tmp_path / "entanglement.png")
    for name in ("bonds", "spectra", "entanglement"):
        checked_picture(tmp_path / f"{name}.png")


def test_pyplot_is_left_alone(tmp_path):
    plot_network(model(3), tmp_path / "network.png")
    if "matplotlib.pyplot" in sys.modules:  # some other test may use it
        assert not sys.modules["matplotlib.pyplot"].get_fignums()


def test_ticks_at_a_single_bond_are_whole():
    for ends in ((0.95, 1.05), (0.7, 3.2)):
        ticks = whole_ticks(6).tick_values(*ends)
        assert 1.0 in ticks
        assert (ticks == ticks.round()).all()
