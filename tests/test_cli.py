"""The command line: a run from end to end, and one clear line for everything wrong."""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import cupy_standin
import numpy as np
import pytest
from typer.testing import CliRunner

import ftnn
from ftnn.cli import app
from ftnn.experiments import ExperimentOptions, get_experiment, resolve
from ftnn.experiments.folder import load_run, new_run_dir
from ftnn.experiments.registry import SHIPPED
from ftnn.training.evaluation import evaluate
from ftnn.training.options import flat, option, replace_values, specs_of

torch = pytest.importorskip("torch")
ROOT = Path(ftnn.__file__).parents[1]
TINY = ("--limit", "100", "--epochs", "1", "--max-bond", "3", "--threads", "1")


def invoke(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def good(*args):
    result = invoke(*args)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def refused(*args):
    """The one line told for a wrong input."""
    result = invoke(*args)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("ftnn: error: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.output
    return result.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A tiny run, and what was printed; never changed by a test."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    return folder, good("train", "digits", "--out", folder, *TINY)


@pytest.fixture
def run_dir(finished, tmp_path):
    """A copy of the tiny run, to spoil."""
    return Path(shutil.copytree(finished[0], tmp_path / "run"))


# ---- end to end ---------------------------------------------------------------------------------


def test_train_leaves_a_complete_run_folder(finished):
    folder, printed = finished
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "config.json",
        "metrics.jsonl",
        "model.safetensors",
        "checkpoint.json",
        "summary.json",
        "curves.png",
        "confusion.png",
        "bonds.png",
    }
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("experiment") == "digits"
    config = config.pop("options")
    assert list(config) == list(specs_of(get_experiment("digits").options))
    assert (config["limit"], config["epochs"], config["max_bond"]) == (100, 1, 3)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["num_params"] == ftnn.load(folder / "model.safetensors").num_params()
    assert np.sum(summary["confusion"]) == summary["test_samples"] == 450
    assert summary["test_accuracy"] == np.trace(summary["confusion"]) / 450
    for words in ("test accuracy", "parameters", "compression", "training time", "samples/s"):
        assert words in printed
    assert f"{summary['test_accuracy']:.2%}" in printed
    assert max(len(line) for line in printed.splitlines()) <= max(80, len(str(folder)) + 12)


def test_evaluate_finds_the_same_on_numpy_and_torch(finished):
    folder, _ = finished
    summary = json.loads((folder / "summary.json").read_text())
    for backend in ("numpy", "torch"):
        printed = good("evaluate", folder, "--backend", backend)
        assert f"accuracy {summary['test_accuracy']:.2%}" in printed
        loss = float(re.search(r"loss ([\d.]+)", printed)[1])
        assert abs(loss - summary["test_loss"]) < 2e-3
    assert "135 images" in good("evaluate", folder, "--split", "val")


@pytest.mark.parametrize("threads", ["-1", "two"])
@pytest.mark.parametrize("command", [("evaluate",), ("inspect", "--speed")])
def test_threads_are_a_number_of_them(finished, command, threads):
    printed = refused(command[0], finished[0], *command[1:], "--threads", threads)
    assert "threads is " in printed
    assert "expected an integer >= 0; 0 leaves the setting of torch unchanged" in printed


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")
def test_evaluate_takes_the_path_of_cupy(finished):
    folder, _ = finished
    summary = json.loads((folder / "summary.json").read_text())
    with cupy_standin.installed():
        printed = good("evaluate", folder, "--backend", "cupy")
    assert f"accuracy {summary['test_accuracy']:.2%}" in printed


def test_logits_agree_between_backends(finished):
    run = load_run(finished[0])
    images, labels = get_experiment("digits").load(run.options).split("test")
    by_numpy = evaluate(run.model, run.encoder, images, labels)
    by_torch = evaluate(run.model.to("torch"), run.encoder, images, labels)
    scale = np.abs(by_numpy.outputs).max()
    np.testing.assert_allclose(by_numpy.outputs, by_torch.outputs, atol=1e-3 * scale)
    assert np.array_equal(
        by_numpy.outputs.argmax(1) == labels, by_torch.outputs.argmax(1) == labels
    )


def test_inspect_measures_steps_against_their_floor(finished):
    threads = torch.get_num_threads()
    try:
        printed = " ".join(good("inspect", finished[0], "--speed", "--threads", 1).split())
    finally:
        torch.set_num_threads(threads)
    words = r"Training step of \d+ samples on 1 thread: ([\d.]+) ms, ([\d,]+) samples/s"
    step = re.search(words, printed)
    floor = re.search(r"for each shape: ([\d.]+) ms. The step takes ([\d.]+) times", printed)
    assert float(step[1]) > float(floor[1]) > 0.0
    assert float(floor[2]) == pytest.approx(float(step[1]) / float(floor[1]), rel=0.3)
    assert "--threads applies to --speed only" in refused("inspect", finished[0], "--threads", 1)


def test_inspect_fits_80_columns(finished):
    printed = good("inspect", finished[0])
    for words in (
        "Linear",
        "Readout",
        "parameters",
        "compression",
        "trunc. error",
        "FLOPs",
        "nats",
    ):
        assert words in printed
    assert max(len(line) for line in printed.splitlines()) <= 80
    assert "…" not in "".join(line for line in printed.splitlines() if "Linear" in line)


def test_plot_draws_every_figure_again(run_dir):
    for picture in run_dir.glob("*.png"):
        picture.unlink()
    printed = good("plot", run_dir).split()
    names = {Path(path).name for path in printed}
    functions = {f"functions-{n}.png" for n in (1, 3, 6)}
    drawn = ("curves", "confusion", "bonds", "spectra", "entanglement", "network")
    pictures = {f"{n}.png" for n in drawn}
    assert names == pictures | functions
    assert all(Path(path).stat().st_size > 5000 for path in printed)


def test_plot_of_an_unfinished_run(run_dir):
    for name in ("summary.json", "confusion.png"):
        (run_dir / name).unlink()
    assert "confusion" not in good("plot", run_dir)


def test_quiet_prints_the_result_only(tmp_path):
    printed = good("train", "digits", "--quiet", "--out", tmp_path / "run", *TINY)
    assert "test accuracy" in printed
    assert "batch_size" not in printed
    assert "val loss" not in printed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_tells_how_to_resume_and_resuming_ends_alike(tmp_path, monkeypatch, number):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    strike = []

    def augment(images, rng):
        if strike:
            os.kill(os.getpid(), strike.pop())
        return images + rng.standard_normal(images.shape).astype(images.dtype) / 100

    experiment = replace(get_experiment("digits"), augment=augment)
    monkeypatch.setattr("ftnn.experiments.digits.EXPERIMENT", experiment)
    options = ("--quiet", *TINY, "--epochs", "2")
    good("train", "digits", "--out", whole, *options)
    strike.append(number)
    result = invoke("train", "digits", "--out", cut, *options)
    assert result.exit_code == 128 + number
    assert not (cut / "summary.json").exists()  # it is that of a finished run
    assert result.stderr == (
        f"ftnn: interrupted: checkpoint in {cut}; resume with `ftnn train --resume {cut}`\n"
    )
    good("train", "--resume", cut, "--quiet")
    first, second = (json.loads((path / "summary.json").read_text()) for path in (whole, cut))
    assert first["test_loss"] == second["test_loss"]
    assert first["confusion"] == second["confusion"]


def test_a_bond_larger_than_any_product_is_the_exact_one(tmp_path):
    """Two layers of bond dimension 2 on product states: no state needs more than 4."""
    for bond in (4, 10**9):
        options = (*TINY, "--max-bond", bond, "--bond-dim", 2, "--depth", 2)
        good("train", "digits", "--quiet", "--out", tmp_path / str(bond), *options)
    first, second = (ftnn.load(tmp_path / n / "model.safetensors") for n in ("4", str(10**9)))
    arrays = second.named_arrays()
    assert max(array.size for array in arrays.values()) < 10_000
    for name, array in first.named_arrays().items():
        np.testing.assert_array_equal(array, arrays[name])


# ---- wrong inputs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["train"], "missing EXPERIMENT; choose one of digits, fashion-mnist"),
        (["train", "mnist"], "no experiment 'mnist'"),
        (["train", "digits", "--epoch", "3"], "No such option: --epoch"),
        (["train", "digits", "--sites", "3"], "No such option: --sites"),
        (["train", "quantics", "--phys", "3"], "No such option: --phys"),
        (["train", "nowhere/mine.py"], "nowhere/mine.py does not exist"),
        (["train", "digits", "--epochs", "many"], "epochs is 'many', expected an integer >= 1"),
        (["train", "digits", "--lr", "0,1"], "lr is '0,1', expected a number > 0"),
        (["train", "digits", "--bond-dim", str(10**15)], "error: bond_dim asks for "),
        (["train", "digits", "--phys", str(10**6)], "error: phys asks for "),
        (["train", "digits", "--phys", str(10**6), "--depth", "0"], "error: phys asks for "),
        (
            ["train", "digits", *("--max-bond", str(10**9), "--bond-dim", "4", "--depth", "14")],
            "error: max_bond asks for ",
        ),
        (["train", "digits", "--readout-bond", str(10**15)], "bond_dim asks for "),
        (["train", "digits", "--epochs", "0"], "epochs is 0, expected an integer >= 1"),
        (["train", "digits", "--lr", "nan"], "lr is nan, expected a number > 0"),
        (["train", "digits", "--label-smoothing", "1"], "expected a number >= 0 and < 1"),
        (["train", "digits", "--schedule", "linear"], "one of cosine, onecycle, constant"),
        (["train", "digits", "--device", "tpu"], "device is 'tpu'"),
        (["train", "digits", "--device", "cuda:99"], "cuda:99"),
        (["train", "digits", "--config", "nowhere.toml"], "nowhere.toml"),
        (["train", "digits", "--out", ""], "--out': it is empty, expected a path; '.' is the"),
        (["train", "digits", "--out="], "--out': it is empty"),
        (["train", "digits", "--config", ""], "--config': it is empty"),
        (["train", "digits", "--resume", ""], "--resume': it is empty"),
        (["train", "--resume", ""], "it is empty, expected a path"),
        (["evaluate", ""], "RUN': it is empty"),
        (["plot", "nowhere", "--out", ""], "--out': it is empty"),
        (["predict", "nowhere", "--data", "x", "--out", ""], "--out': it is empty"),
        (["train", "--resume", "nowhere"], "run folder nowhere does not exist"),
        (["train", "fashion-mnist", "--data", "nowhere"], "--data nowhere: there is no such"),
        (["evaluate"], "RUN"),
        (["evaluate", "nowhere"], "run folder nowhere does not exist"),
        (["inspect", "nowhere"], "run folder nowhere does not exist"),
        (["plot", "nowhere"], "run folder nowhere does not exist"),
        (["evaluate", "nowhere", "--backend", "tensorflow"], "choose one of numpy, torch"),
        (["evaluate", "nowhere", "--split", "train"], "expected test or val"),
    ],
)
def test_one_line_for_wrong_words(args, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words in refused(*args)
    assert not list(tmp_path.iterdir())  # nothing was begun


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch = 3", "unknown key 'epoch'"),
        ("epochs = 'three'", "epochs is 'three', expected an integer >= 1"),
        ("epochs = 2.5", "epochs is 2.5"),
        ("recompute = 1", "recompute is 1, expected true or false"),
        ("seed = true", "seed is True"),
        ("dtype = 'float16'", "one of float32, float64"),
        ("epochs 3", "not a TOML file"),
        ("[train]\nepochs = 3", "unknown key 'train'"),
    ],
)
def test_one_line_for_wrong_files(text, words, tmp_path):
    file = tmp_path / "my.toml"
    file.write_text(text)
    line = refused("train", "digits", "--config", file, "--out", tmp_path / "run")
    assert words in line
    assert str(file) in line


def test_one_line_for_spoiled_runs(run_dir, tmp_path):
    model = run_dir / "model.safetensors"
    whole = model.read_bytes()
    for raw, words in (
        (whole[:-100], str(model)),
        (b"", str(model)),
        (b"\x89PNG" * 99, str(model)),
    ):
        model.write_bytes(raw)
        for command in ("evaluate", "inspect", "plot"):
            assert words in refused(command, run_dir)
    model.unlink()
    assert "no model yet" in refused("inspect", run_dir)
    model.write_bytes(whole)
    config = run_dir / "config.json"
    for text, words in (
        ("{", "config.json is not valid JSON"),
        ("[]", "names no experiment"),
        ('{"experiment": "mnist", "options": {}}', "no experiment 'mnist'"),
        ('{"experiment": "../digits", "options": {}}', "no experiment '../digits'"),
        ('{"experiment": "digits", "lr": -1}', "by an earlier version of ftnn"),
        ('{"experiment": "digits", "options": {"lr": -1}}', "lr is -1.0"),
        ('{"experiment": "digits", "options": {"sites": 1}}', "unknown key 'sites'"),
        ("[" * 100_000, "nested too deeply"),
    ):
        config.write_text(text)
        assert words in refused("evaluate", run_dir)
    config.unlink()
    assert "no config.json" in refused("evaluate", run_dir)
    assert "not installed" in refused("evaluate", tmp_path, "--backend", _absent())


def _absent():
    from importlib.util import find_spec

    missing = [name for name in ("cupy", "jax") if find_spec(name) is None]
    return missing[0] if missing else pytest.skip("every backend is installed")


def test_nothing_saved_is_overwritten(run_dir):
    before = {path.name: path.read_bytes() for path in run_dir.iterdir()}
    line = refused("train", "digits", "--out", run_dir, *TINY)
    assert f"--resume {run_dir}" in line
    assert "(now 0.5)" in refused("train", "--resume", run_dir, "--lr", "0.5", "--quiet")
    assert "not of fashion-mnist" in refused("train", "fashion-mnist", "--resume", run_dir)
    assert {path.name: path.read_bytes() for path in run_dir.iterdir()} == before
    (run_dir / "checkpoint.json").unlink()
    assert "has no checkpoint.json" in refused("train", "--resume", run_dir)
    for place in ("config.json", "config.json/run"):
        line = refused("train", "digits", "--out", run_dir / place)
        assert f"{run_dir / 'config.json'} is a file; choose a folder with --out DIR" in line


def test_errors_of_ours_are_told_as_such(run_dir, monkeypatch):
    def broken(*args):
        raise KeyError("seed")

    monkeypatch.setattr("ftnn.layers.files.load_encoder", broken)
    assert "internal, KeyError" in refused("evaluate", run_dir)
    monkeypatch.setenv("FTNN_DEBUG", "1")
    assert isinstance(invoke("evaluate", run_dir).exception, KeyError)


# ---- configuration ------------------------------------------------------------------------------


def test_flags_override_the_file_which_overrides_defaults(tmp_path):
    file = tmp_path / "my.toml"
    file.write_text("epochs = 7\nlr = 1\nmax_bond = 5\naugment = true\n[quick]\nepochs = 2")
    options = replace_values(get_experiment("fashion-mnist").options(), {"batch_size": 17})
    flags = {"max_bond": 6, "augment": False, "seed": None}
    new = resolve(options, file, flags)
    assert (new.train.batch_size, new.train.epochs, new.network.max_bond) == (17, 7, 6)
    assert not new.augment
    assert new.train.lr == 1.0
    assert isinstance(new.train.lr, float)
    assert replace_values(type(new)(), flat(new)) == new
    assert resolve(options, file, flags, quick=True).train.epochs == 2
    assert resolve(options, file, {"epochs": 3}, quick=True).train.epochs == 3


@pytest.mark.parametrize("name", SHIPPED)
def test_every_experiment_is_complete(name):
    experiment = get_experiment(name)
    assert experiment.name == name
    assert experiment.description
    assert "\n" not in experiment.description
    assert experiment.tuned_options(quick=True) != experiment.tuned_options()


@pytest.mark.parametrize("name", SHIPPED)
def test_the_help_of_an_experiment_has_its_options_and_no_others(name):
    printed = good("train", name, "--help")
    shown = set(re.findall(r"--(?!no-)([a-z-]+)", printed))
    options = get_experiment(name).options
    own = {option.replace("_", "-") for option in specs_of(options).keys() - options.unused.keys()}
    assert shown == own | {"config", "out", "resume", "quiet", "quick", "tensorboard", "help"}


def test_options_of_the_same_name_are_refused():
    @dataclass(frozen=True)
    class Twice(ExperimentOptions):
        epochs: int = option(3, "Once more.")

    with pytest.raises(TypeError, match="two options 'epochs', one of them in train"):
        specs_of(Twice)


@pytest.mark.parametrize("command", ["", "train", "evaluate", "inspect", "plot"])
def test_help(command):
    printed = good(*command.split(), "--help")
    assert "Usage" in printed
    assert "ftnn train" in printed or f"ftnn {command}" in printed


def test_run_folders_get_new_names(tmp_path):
    first = new_run_dir("digits", tmp_path)
    first.mkdir()
    assert new_run_dir("digits", tmp_path) != first
    assert first.parent == tmp_path


@pytest.mark.parametrize("words", [(), ("train",), ("train", "digits")])
def test_help_imports_nothing_slow(words):
    command = [sys.executable, "-X", "importtime", "-m", "ftnn", *words, "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0
    assert "Usage" in result.stdout
    loaded = {line.rsplit("|", 1)[-1].strip() for line in result.stderr.splitlines()}
    slow = {"torch", "sklearn", "quimb", "matplotlib", "scipy", "numba", "autoray"}
    assert not slow & {name.split(".")[0] for name in loaded}


def test_as_a_program():
    result = subprocess.run(
        [sys.executable, "-m", "ftnn", "train", "digits", "--epochs", "-1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == "ftnn: error: epochs is -1, expected an integer >= 1; try 20\n"


@pytest.mark.parametrize(
    ("name", "change", "dims", "most"),
    [
        ("fashion-mnist", (), (5,) * 196, 100_000),
        ("fashion-mnist", ("--no-merge", "--products", 0, "--depth", 2), (17,) * 49, 100_000),
        ("fashion-mnist-quantics", (), (4,) * 5, 60_000),
    ],
)
def test_fashion_mnist_trains_on_idx_files_with_augmentation(tmp_path, name, change, dims, most):
    rng = np.random.default_rng(0)
    for part, n in (("train", 400), ("t10k", 40)):
        pixels = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        header = bytes([0, 0, 8, 3]) + b"".join(d.to_bytes(4, "big") for d in pixels.shape)
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        labels = np.arange(n, dtype=np.uint8) % 10
        header = bytes([0, 0, 8, 1]) + n.to_bytes(4, "big")
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
    run = tmp_path / "run"
    flags = ("--data", tmp_path, "--limit", 60, "--epochs", 1, "--augment", "--threads", 1)
    with pytest.warns(UserWarning, match="is not Fashion-MNIST"):
        good("train", name, *flags, *change, "--out", run)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["test_samples"] == 40
    assert summary["num_params"] <= most
    assert ftnn.load(run / "model.safetensors").in_dims == dims
