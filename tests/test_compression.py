"""`ftnn train compression`: a dense network learns, becomes smaller, heals, and is interrupted."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import ftnn
from ftnn.cli import app
from ftnn.experiments import get_experiment
from ftnn.experiments.compression import networks
from ftnn.experiments.compression.frontier import accuracy
from ftnn.experiments.compression.model import DenseNetwork
from ftnn.experiments.folder import load_run, write_config
from ftnn.layers.containers import read_tensors
from ftnn.layers.files import dumps, loads
from ftnn.tensorized import Tensorizer
from ftnn.tensorized.course import Course
from ftnn.training import TorchModule
from ftnn.training.data import Samples
from ftnn.training.options import replace_values
from ftnn.training.update import Updater

pytestmark = pytest.mark.filterwarnings("ignore:.*is not Fashion-MNIST:UserWarning")
FLAGS = ("--epochs", 6, "--batch-size", 25, "--lr", 3e-3, "--ratios", "2,6", "--threads", 1)
FLAGS += ("--heal-epochs", 2, "--calibration", 300, "--formats", "svd,tucker")


@pytest.fixture(autouse=True, scope="module")
def _small():
    """Networks of the same build, with fewer neurons and channels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "WIDTH", 32)
        patch.setattr(networks, "CHANNELS", (4, 8))
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Ten random images with noise, in the format of Fashion-MNIST."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    patterns = rng.integers(0, 256, (10, 7, 7)).repeat(4, axis=1).repeat(4, axis=2)
    for part, n in (("train", 600), ("t10k", 100)):
        labels = (np.arange(n) % 10).astype(np.uint8)
        pixels = 0.4 * patterns[labels] + 0.6 * rng.integers(0, 256, (n, 28, 28))
        for name, array in (("images-idx3", pixels.astype(np.uint8)), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(
                size.to_bytes(4, "big") for size in array.shape
            )
            (folder / f"{part}-{name}-ubyte").write_bytes(header + array.tobytes())
    return folder


def invoke(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def good(*args):
    result = invoke(*args)
    assert result.exit_code == 0, result.output
    return result.stdout


def train(data, folder, *flags):
    return good("train", "compression", "--data", data, "--out", folder, *FLAGS, *flags)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run without interruption, and what it printed."""
    folder = tmp_path_factory.mktemp("run") / "whole"
    return folder, train(data, folder)


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


def split(folder, name):
    run = load_run(folder)
    inputs, targets = run.experiment.load(run.options).split(name)
    return run, Samples((torch.from_numpy(inputs[0]),), (torch.from_numpy(targets),))


def test_the_frontier_is_in_the_summary_and_its_networks_load(whole):
    folder, printed = whole
    summary = summary_of(folder)
    assert summary["val_accuracy"] > 0.8
    run, val = split(folder, "val")
    _, test = split(folder, "test")
    dense = run.model.module()
    assert accuracy(dense, val) == pytest.approx(summary["val_accuracy"])
    assert accuracy(dense, test) == pytest.approx(summary["test_accuracy"])
    assert [row["ratio"] for row in summary["frontier"]] == [2, 6]
    for row in summary["frontier"]:
        assert row["params"] <= summary["num_params"] / row["ratio"]
        model = ftnn.tensorized.load(dense, folder / f"ratio-{row['ratio']:g}/model.safetensors")
        assert sum(p.numel() for p in model.parameters()) == row["params"]
        assert accuracy(model, val) == row["healed"]
        assert accuracy(model, test) == row["test_accuracy"]
        assert f"{row['test_accuracy']:.2%}" in printed
        metrics = (folder / f"ratio-{row['ratio']:g}/metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in metrics] == [1, 2]
        first, last = (json.loads(line)["train_difference"] for line in metrics)
        assert last < first
    mild, strong = summary["frontier"]
    assert mild["untouched"] > summary["val_accuracy"] - 0.1
    assert strong["healed"] >= strong["untouched"]
    assert (folder / "frontier.png").stat().st_size > 10_000
    assert {"network.png", "curves.png"} <= {path.name for path in folder.iterdir()}
    again = good("train", "--resume", folder, "--quiet")
    assert f"{mild['test_accuracy']:.2%}" in again


def test_a_run_is_evaluated_inspected_and_plotted(whole):
    folder, _ = whole
    score = f"{summary_of(folder)['test_accuracy']:.2%}"
    for backend in ("numpy", "torch"):
        assert score in good("evaluate", folder, "--backend", backend)
    assert "DenseNetwork" in good("inspect", folder)
    assert "network.png" in good("plot", folder)


@pytest.mark.parametrize("where", ["training", "layers", "healing"])
def test_an_interrupted_run_goes_on_to_the_same_networks(where, whole, data, tmp_path, monkeypatch):
    """Interrupted in an epoch of the dense network, at the first ratio, and in its last epoch."""
    place, name, call = {
        "training": (Updater, "step", 7),
        "layers": (Tensorizer, "tensorize", 1),
        "healing": (Course, "_step", 30),
    }[where]
    plain, calls = getattr(place, name), []
    number = signal.SIGINT if where == "training" else signal.SIGTERM
    monkeypatch.setattr("ftnn.experiments.figures.draw_figures", lambda *_: [])  # slow

    def strike(*args, **kwargs):
        calls.append(None)
        if len(calls) == call:
            os.kill(os.getpid(), number)
        return plain(*args, **kwargs)

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(place, name, strike)
        stopped = invoke("train", "compression", "--data", data, "--out", folder, *FLAGS)
    assert stopped.exit_code == 128 + number, stopped.output
    assert f"resume with `ftnn train --resume {folder}`" in stopped.stderr
    assert not (folder / "summary.json").exists()
    again = good("train", "--resume", folder)
    assert ("2 times fewer parameters: 1:" in again) == (where != "healing")  # not done twice
    models = ["model.safetensors", *(f"ratio-{n}/model.safetensors" for n in (2, 6))]
    for name in models:
        (first, about), (second, other) = (read_tensors(at / name) for at in (folder, whole[0]))
        assert about == other
        assert first.keys() == second.keys()
        assert all(np.array_equal(first[key], second[key]) for key in first)
    assert summary_of(folder)["frontier"] == summary_of(whole[0])["frontier"]


def test_a_residual_network_and_a_budget_that_cannot_be_met(data, tmp_path, monkeypatch):
    monkeypatch.setattr("ftnn.experiments.figures.draw_figures", lambda *_: [])  # slow
    folder = tmp_path / "run"
    printed = train(
        data,
        folder,
        "--network",
        "resnet",
        "--ratios",
        "1.5,1000",
        "--heal-epochs",
        0,
        "--lr",
        0.02,
    )
    summary = summary_of(folder)
    assert summary["val_accuracy"] > 0.7
    met, unmet = summary["frontier"]
    assert met["healed"] == met["by_layer"] > 0.5
    assert "the smallest that can be met is" in unmet["error"]
    assert "1000 times fewer" in printed
    model = ftnn.load(folder / "model.safetensors")
    running = {name: x for name, x in model.named_buffers().items() if "running" in name}
    assert len(running) == 12
    assert all(np.abs(x - round(float(x.mean()))).max() > 1e-3 for x in running.values())
    run, val = split(folder, "val")
    assert accuracy(run.model.module(), val) == pytest.approx(summary["val_accuracy"])


def test_the_layer_is_the_torch_module_also_in_files_and_in_training():
    model = DenseNetwork("resnet", seed=3)
    x = np.random.default_rng(0).standard_normal((5, 1, 784, 1)).astype(np.float32)
    again, _ = loads(dumps(model))
    torch_model = model.module()
    with torch.no_grad():
        expected = torch_model(torch.from_numpy(x).reshape(5, 1, 28, 28)).numpy()
    np.testing.assert_allclose(again.apply((x,)), expected, atol=1e-6)
    assert not np.array_equal(DenseNetwork("resnet", seed=4).apply((x,)), expected)
    module = TorchModule(model)
    before = {name: value.clone() for name, value in module.named_buffers()}
    held = dict(module.named_buffers())
    module.train().apply_cores((torch.from_numpy(x),))
    torch_model.train()(torch.from_numpy(x).reshape(5, 1, 28, 28))
    own = dict(torch_model.named_buffers())
    assert module.replaced == set(before)
    for name, value in module.named_buffers():
        assert torch.equal(held[name], before[name])  # not written into
        torch.testing.assert_close(value, own[name.replace(":", ".")])


@pytest.mark.parametrize("out", ["small.pt2", "small.safetensors"])
def test_a_run_is_compressed_without_code(whole, tmp_path, out):
    folder, _ = whole
    path = tmp_path / out
    printed = good("compress", folder, "--ratio", 3, "--formats", "svd", "--out", path)
    assert "healed by layers: from" in printed
    run, val = split(folder, "val")
    if path.suffix == ".pt2":
        model = torch.export.load(path).module()
        x, y = val.cores[0].reshape(-1, 1, 28, 28), val.targets[0]
        found = float((model(x).argmax(1) == y).double().mean())
    else:
        model = ftnn.tensorized.load(run.model.module(), path)
        found = accuracy(model, val)
    assert sum(p.numel() for p in model.parameters()) <= run.model.num_params() / 3
    assert found > summary_of(folder)["val_accuracy"] - 0.15


def test_what_cannot_be_is_told_in_one_line(data, tmp_path):
    digits, out = tmp_path / "digits", tmp_path / "run"
    write_config(digits, get_experiment("digits"), get_experiment("digits").tuned_options())
    ftnn.save(ftnn.Readout((2, 2), 3, bond_dim=2), digits / "model.safetensors")
    start = ("train", "compression", "--data", data, "--out", out)
    cases = [
        (("compress", digits, "--ratio", 2), "is a run of digits, whose weights are tensor"),
        (("compress", data, "--ratio", 2), "is not a run folder"),
        (("compress", digits, "--ratio", 2, "--out", "x.onnx"), "ends in .pt2 or .safetensors"),
        ((*start, "--ratios", "4,2"), "expected rising numbers above 1; try 4,16,64"),
        ((*start, "--ratios", "4,many"), "expected rising numbers above 1"),
        ((*start, "--ratios", "4,inf"), "expected rising numbers above 1"),
        ((*start, "--formats", "qr"), "formats is 'qr', expected auto, or some of svd, mpo"),
        ((*start, "--network", "vgg"), "network is 'vgg'"),
        ((*start, "--dtype", "complex64"), "but the network is real; choose float32"),
        ((*start, "--heal-epochs", 0, "--heal-lr", 0.1), "does not use it with heal_epochs 0"),
        ((*start, "--recompute"), "does not use it as its network is one layer"),
    ]
    for arguments, words in cases:
        result = invoke(*arguments)
        assert result.exit_code == 2, arguments
        assert words in result.stderr, result.stderr
        assert result.stderr.count("\n") == 1, result.stderr
    assert not out.exists()


def test_formats_are_those_there_are():
    from ftnn.experiments.compression.options import FORMATS
    from ftnn.tensorized.formats import CONV, LINEAR

    assert set(FORMATS) == {*LINEAR, *CONV}
    options = get_experiment("compression").tuned_options(quick=True)
    assert set(replace_values(options, {"formats": "svd, tt"}).names) == {"svd", "tt"}
