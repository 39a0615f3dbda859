"""Experiments and data of a user's own: a file of Python, a table, a folder of images."""

import csv
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

import ftnn
from ftnn import experiments, training
from ftnn.cli import app
from ftnn.experiments import Experiment, ExperimentOptions, get_experiment, option
from ftnn.experiments.images.data import read_images
from ftnn.experiments.images.options import ImagesOptions
from ftnn.experiments.table.csv_file import read_csv
from ftnn.training.options import flat, replace_values

torch = pytest.importorskip("torch")

DOCS = Path(__file__).parents[1] / "docs"
(EXAMPLE,) = re.findall(
    r"```python\n(.*?)```", (DOCS / "command-line.md").read_text("utf-8"), re.DOTALL
)
BRIEF = ("--quiet", "--threads", 1, "--epochs", 1)


@pytest.fixture(autouse=True)
def _own_secret(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("home")))


def invoke(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def good(*args):
    result = invoke(*args)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def refused(*args):
    result = invoke(*args)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("ftnn: error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def columns_of(path):
    head, *rows = rows_of(path)
    return dict(zip(head, zip(*rows, strict=True), strict=True))


# ---- a file -------------------------------------------------------------------------------------


@pytest.fixture
def wine(tmp_path):
    """The example of the documentation, in a file."""
    assert len(EXAMPLE.splitlines()) < 45
    path = tmp_path / "wine.py"
    path.write_text(EXAMPLE)
    return path


def test_the_example_of_the_documentation(wine, tmp_path):
    run = tmp_path / "run"
    assert "--bond-dim" in good("train", wine, "--help")
    good("train", wine, "--bond-dim", 3, *BRIEF, "--out", run)
    config = json.loads((run / "config.json").read_text())
    assert config["file"] == str(wine)
    assert config["options"]["bond_dim"] == 3
    assert ftnn.load(run / "model.safetensors").layers[1].config()["bond_dim"] == 3
    accuracy = json.loads((run / "summary.json").read_text())["test_accuracy"]
    assert f"accuracy {accuracy:.2%}" in good("evaluate", run)
    assert "Readout" in good("inspect", run)
    assert "curves.png" in good("plot", run)
    good("train", "--resume", run, "--quiet")
    moved = wine.rename(tmp_path / "elsewhere.py")
    for command in ("evaluate", "inspect", "plot"):
        assert "is missing; give it with --experiment FILE" in refused(command, run)
    assert f"accuracy {accuracy:.2%}" in good("evaluate", run, "--experiment", moved)
    good("train", moved, "--resume", run, "--quiet")


def test_runs_from_elsewhere_import_nothing(wine, tmp_path, monkeypatch):
    run, mark = tmp_path / "run", tmp_path / "mark"
    good("train", wine, *BRIEF, "--out", run)
    wine.write_text(f"{EXAMPLE}\nopen({str(mark)!r}, 'w').close()\n")
    config = json.loads((run / "config.json").read_text())
    other = wine.with_name("other.py")
    shutil.copy(wine, other)
    for change in ({"file": str(other)}, {"seal": "0" * 64}, {"seal": None}, {"seal": "é"}):
        (run / "config.json").write_text(json.dumps(config | change))
        assert "not made here by you" in refused("evaluate", run)
    (run / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "another account"))
    assert "not made here by you" in refused("evaluate", run)
    assert not mark.exists()
    good("evaluate", run, "--experiment", wine)
    assert mark.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "defines no experiment; give it an EXPERIMENT"),
        ("EXPERIMENT = 3", "defines no experiment"),
        ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
        ("def load(", "cannot be imported: SyntaxError"),
        (EXAMPLE.replace('"wine"', '"digits"'), "there is an experiment 'digits' in ftnn"),
        (EXAMPLE.replace("bond_dim", "seed"), "two options 'seed', one of them in train"),
        (EXAMPLE.replace("bond_dim", "out"), "has an option 'out', which `ftnn train` has"),
        (EXAMPLE.replace("bond_dim: int", "bond_dim: list"), "expected int, float, bool, str or"),
        (EXAMPLE.replace("WineOptions(ExperimentOptions)", "WineOptions"), "expected a subclass"),
    ],
)
def test_wrong_files_are_told_in_one_line(text, words, tmp_path):
    (tmp_path / "mine.py").write_text(text)
    assert words in refused("train", tmp_path / "mine.py", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_three_names_make_an_experiment(tmp_path):
    text = EXAMPLE[: EXAMPLE.index("tuned =")].replace("WineOptions", "Options")
    (tmp_path / "short.py").write_text(text)
    experiment = experiments.experiment_of_file(tmp_path / "short.py")
    assert (experiment.name, experiment.options.__name__) == ("short", "Options")
    assert experiment.description == "Wine by its chemistry, as product states of 13 columns."
    assert "has no quick trial" in refused("train", tmp_path / "short.py", "--quick")


def test_registered_experiments_have_names(tmp_path, monkeypatch):
    monkeypatch.setattr("ftnn.experiments.registry._REGISTERED", {})
    digits = get_experiment("digits")

    @dataclass(frozen=True)
    class Few(digits.options):
        limit: int | None = option(60, "Samples.", least=1)

    few = Experiment("few", "Few digits.", Few, digits.load, digits.build, {"epochs": 1})
    assert experiments.register(few) is get_experiment("few")
    assert "few" in good("train", "--help")
    good("train", "few", "--quiet", "--out", tmp_path / "run")
    assert "accuracy" in good("evaluate", tmp_path / "run")
    with pytest.raises(ValueError, match="there is an experiment 'digits'"):
        experiments.register(Experiment("digits", "", ExperimentOptions, digits.load, digits.build))
    with pytest.raises(ValueError, match="expected letters"):
        experiments.register(Experiment("a/b.py", "", Few, digits.load, digits.build))
    with pytest.raises(TypeError, match="is a int"):
        experiments.register(3)


# ---- one function -------------------------------------------------------------------------------

SMALL = {"limit": 40, "epochs": 2, "depth": 0, "phys": 2, "readout_bond": 2, "nonlinearity": "none"}


def test_run_is_what_the_command_line_does(tmp_path, monkeypatch):
    digits = get_experiment("digits")
    options = replace_values(digits.tuned_options(quick=True), SMALL)
    result = experiments.run(digits, options, tmp_path / "one", quiet=True)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    flags += ["--quick", "--quiet"]
    good("train", "digits", *flags, "--out", tmp_path / "two")
    summary = json.loads((tmp_path / "two" / "summary.json").read_text())
    for key in ("test_loss", "test_accuracy", "confusion", "num_params", "log10_compression"):
        assert result.summary[key] == summary[key]
    assert result.outcome == "completed"
    assert [row["epoch"] for row in result.history] == [1, 2]
    saved = ftnn.load(tmp_path / "one" / "model.safetensors").named_arrays()
    for name, array in result.model.named_arrays().items():
        np.testing.assert_array_equal(array, saved[name])
    with pytest.raises(ValueError, match="holds a run already"):
        experiments.run("digits", options, tmp_path / "one", quiet=True)
    again = experiments.run("digits", None, tmp_path / "one", resume=True, quiet=True)
    assert again.summary["test_loss"] == result.summary["test_loss"]
    with pytest.raises(ValueError, match=r"trained with epochs 2 \(now 3\)"):
        experiments.run(
            digits,
            replace_values(options, {"epochs": 3}),
            tmp_path / "one",
            resume=True,
            quiet=True,
        )
    with pytest.raises(ValueError, match="is a run of digits, not of quantics"):
        experiments.run("quantics", None, tmp_path / "one", resume=True, quiet=True)
    with pytest.raises(TypeError, match="expected DigitsOptions"):
        experiments.run(digits, get_experiment("quantics").options(), tmp_path / "three")
    with pytest.raises(ValueError, match="folder is None"):
        experiments.run(digits, options)


def test_the_summary_is_written_once(tmp_path):
    class Watch(training.Callback):
        def fit_end(self, fit, result):
            seen.append((tmp_path / "run" / "summary.json").exists())

    seen = []
    options = replace_values(get_experiment("digits").tuned_options(), {"limit": 60, "epochs": 1})
    result = experiments.run("digits", options, tmp_path / "run", quiet=True, callbacks=[Watch()])
    assert seen == [False]
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == result.summary
    assert "test_accuracy" in result.summary
    assert "signal" not in result.summary


def test_nothing_is_read_back_in_the_same_run(tmp_path, monkeypatch):
    """The model that was kept, and the metrics, are at hand."""
    for name in (
        "ftnn.experiments.setup.load",
        "ftnn.experiments.runner.read_summary",
        "ftnn.training.metrics.read_metrics",
    ):
        monkeypatch.setattr(name, lambda *_: pytest.fail("read back"))
    options = replace_values(get_experiment("digits").tuned_options(), SMALL)
    experiments.run("digits", options, tmp_path / "run", quiet=True)


# ---- tables -------------------------------------------------------------------------------------


def write_table(path, rows=60, numbers=False, delimiter=",", seed=0):
    """A table of two informative columns, a category, and missing values."""
    rng = np.random.default_rng(seed)
    names = ["width", "colour", "height", "kind"]
    with path.open("w", newline="") as file:
        out = csv.writer(file, delimiter=delimiter)
        out.writerow(names)
        for n in range(rows):
            label = n % 3
            width = "" if n % 17 == 5 else f"{label + 0.1 * rng.standard_normal():.4f}"
            height = f"{-label + 0.1 * rng.standard_normal():.4f}"
            target = f"{10 * label + rng.standard_normal():.3f}" if numbers else "abc"[label]
            out.writerow(
                [width, ("red", "dark, blue", "green")[n % 2 + label // 2], height, target]
            )
    return path


TABLE = ("--threads", 1, "--epochs", 15, "--batch-size", 8, "--lr", 0.02, "--quiet")


def test_classes_of_a_table(tmp_path):
    path, run = write_table(tmp_path / "t.csv", delimiter=";"), tmp_path / "run"
    good("train", "table", "--data", path, "--target", "kind", *TABLE, "--out", run)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["class_names"] == ["a", "b", "c"]
    assert summary["test_samples"] == 12
    assert summary["test_accuracy"] > 0.8
    assert "12 rows" in good("evaluate", run, "--backend", "numpy")
    more = write_table(tmp_path / "more.csv", 30, seed=1)
    rows = rows_of(more)
    order = [3, 1, 0, 2]  # columns may stand in any order
    more.write_text("\n".join("\t".join(row[k] for k in order) for row in rows))
    printed = good("evaluate", run, "--data", more)
    assert "30 rows of" in printed
    out = tmp_path / "predictions.csv"
    good("predict", run, "--data", more, "--out", out)
    predicted = columns_of(out)
    right = np.mean(np.array(predicted["prediction"]) == [row[3] for row in rows[1:]])
    assert f"accuracy {right:.2%}" in printed
    assert all(1 / 3 <= float(value) <= 1 for value in predicted["probability"])
    assert "exists; choose another file" in refused("predict", run, "--data", more, "--out", out)
    more.write_text("width,height\n1,2\n")
    assert "has no column 'colour'" in refused("predict", run, "--data", more)
    line = refused("predict", run, "--data", more, "--out", tmp_path / "none" / "p.csv")
    assert "none does not exist; create it" in line
    assert "is a file, expected a folder" in refused("plot", run, "--out", more)
    more.write_text("width,height,colour,kind\n1,2,red,d\n")
    assert "'kind' is 'd', expected one of a, b, c" in refused("evaluate", run, "--data", more)
    more.write_text("width,height,colour\n1,2,red\n1,high,red\n")
    assert "column 'height' holds 'high' in line 3" in refused("predict", run, "--data", more)


def test_numbers_of_a_table(tmp_path):
    path, run = write_table(tmp_path / "t.csv", numbers=True), tmp_path / "run"
    good("train", "table", "--data", path, "--target", "kind", *TABLE, "--out", run)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["r2"] > 0.5
    assert "R²" in good("train", "--resume", run, "--quiet")
    out = tmp_path / "predictions.csv"
    good("predict", run, "--data", path, "--out", out)
    numbers = np.array(columns_of(out)["prediction"], dtype=float)
    truth = np.array(columns_of(path)["kind"], dtype=float)
    assert np.corrcoef(numbers, truth)[0, 1] > 0.8
    assert abs(numbers.mean() - truth.mean()) < 2.0  # in the unit of the column


def write_pairs(path, product, rows=300):
    """Two classes: by a sum of columns and noise, or by the sign of a product."""
    X = np.random.default_rng(0).standard_normal((rows, 4))
    noise = np.random.default_rng(1).standard_normal(rows)
    labels = (X[:, 0] * X[:, 3] if product else X[:, 0] - X[:, 1] + noise) > 0
    lines = [
        ",".join([*(f"{x:.5f}" for x in row), ["no", "yes"][y]])
        for row, y in zip(X, labels.astype(int), strict=True)
    ]
    path.write_text("\n".join(["a,b,c,d,kind", *lines]))
    return path


def test_a_table_is_trained_beyond_the_linear_model_only_where_that_pays(tmp_path):
    path = write_pairs(tmp_path / "sum.csv", product=False)
    command = ("train", "table", "--data", path, "--target", "kind", "--threads", 1, "--epochs", 2)
    printed = good(*command, "--out", tmp_path / "sum")
    assert "the linear model is kept" in printed
    summary = json.loads((tmp_path / "sum" / "summary.json").read_text())
    assert (summary["epochs"], summary["outcome"]) == (0, "completed")
    assert summary["remarks"]["training"][0] == "none"
    table = read_csv(path)
    inputs = table.select(["a", "b", "c", "d"])
    outputs = ftnn.load(tmp_path / "sum" / "model.safetensors").to("numpy", "float64")(
        ftnn.load_encoder(tmp_path / "sum" / "model.safetensors")(inputs)
    )
    options = replace_values(
        get_experiment("table").tuned_options(), {"data": str(path), "target": "kind"}
    )
    data = get_experiment("table").load(options)
    rows = np.concatenate([data.train_inputs, data.val_inputs]).astype(float)
    labels = np.concatenate([data.train_targets, data.val_targets])
    linear = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, labels)
    logits = linear.decision_function(inputs.astype(float))
    assert np.allclose(outputs[:, 1] - outputs[:, 0], logits, atol=1e-3)
    assert "none" in good("train", "--resume", tmp_path / "sum", "--quiet")
    good(*command, "--no-cautious", "--out", tmp_path / "any")
    assert json.loads((tmp_path / "any" / "summary.json").read_text())["epochs"] == 2
    path = write_pairs(tmp_path / "product.csv", product=True)
    good(*command[:3], path, *command[4:], "--out", tmp_path / "product")
    assert json.loads((tmp_path / "product" / "summary.json").read_text())["epochs"] == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("a,b\n", "has a header, but no rows"),
        ("1,2\n3,4\n", "has no header"),
        ("a,a\n1,2\n", "two columns are called 'a'"),
        ("a,b\n1,2\n1,2,3\n", "line 3: has 3 entries, but the header 2"),
        ("a,b\n1,2\n", "target is 'kind', but"),
        ("a,kind\n1,x\n2,\n", "line 3: 'kind' is missing"),
        ("kind\nx\ny\n", "has no column but 'kind'"),
        ("a,kind\n" + "1,x\n" * 20, "has one class only, 'x'"),
        ("a,kind\n" + "1,x\n" * 20 + "2,y\n", "class 'y' of column 'kind' has 1 rows"),
        ("a,kind\n" + "1,3.5\n" * 20, "are all the same"),
        ("a,kind\n1,2.5\n", "too few for a split"),
        ("a,kind\n" + "1,x\n2,y\n" * 9 + "inf,x\n", "column 'a' is infinite in line 20"),
        (
            "a;kind\n" + "1,5;x\n2;y\n" * 9,
            "column 'a' holds '1,5', a decimal comma; give",
        ),
        ("a,kind\n" + "2024-05-31,x\n,y\n" * 9, "column 'a' holds dates such as '2024-05-31'"),
        ("a;kind\n" + "1;2,5\n2;3,5\n" * 9, "column 'kind' holds '2,5', a decimal comma; give"),
    ],
)
def test_wrong_tables_are_told_in_one_line(text, words, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(text)
    command = ("train", "table", "--data", path, "--target", "kind", "--out", tmp_path / "run")
    assert words in refused(*command).replace("--target is", "target is")
    assert not (tmp_path / "run").exists()


def test_decimal_commas_are_read(tmp_path):
    plain, commas = tmp_path / "plain.csv", tmp_path / "commas.csv"
    write_table(plain, numbers=True, delimiter=";")
    commas.write_text(plain.read_text().replace(".", ","))
    table = read_csv(commas, ",")
    for name in ("width", "height", "kind"):
        assert table.column(name, "").tolist() == read_csv(plain).column(name, "").tolist()
    command = ("train", "table", "--data", commas, "--target", "kind", *TABLE, "--epochs", 1)
    run = tmp_path / "run"
    assert "a decimal comma; give --decimal" in refused(*command, "--out", run)
    good(*command, "--decimal", ",", "--out", run)
    good("predict", run, "--data", commas, "--out", tmp_path / "predictions.csv")
    assert "a number with a point, but --decimal" in refused("predict", run, "--data", plain)


def test_wrong_options_of_tables(tmp_path):
    path = write_table(tmp_path / "t.csv")
    assert "--data is missing" in refused("train", "table", "--target", "kind")
    assert "--target is missing" in refused("train", "table", "--data", path)
    missing = refused("train", "table", "--data", tmp_path / "none.csv", "--target", "kind")
    assert "there is no such file" in missing
    folder = refused("train", "table", "--data", tmp_path, "--target", "kind")
    assert "is a folder, expected a CSV file" in folder
    command = ("train", "table", "--data", path, "--target", "kind")
    assert "holds text" in refused(*command, "--task", "numbers")
    path.write_bytes(b"a,kind\n\xff\xfe,1\n")
    assert "not a text file in UTF-8" in refused(*command)


def test_a_run_folder_that_cannot_be_made_is_told(tmp_path):
    command = ("train", "table", "--data", write_table(tmp_path / "t.csv"), "--target", "kind")
    line = refused(*command, "--epochs", 1, "--out", "/proc/none")
    assert "run folder /proc/none: cannot be created" in line


def test_quotes_marks_and_blank_lines_of_csv_files(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes('\ufeff"a","b;c"\r\n\r\n"1, 2", "x"\r\n3,"two\nlines"\r\n'.encode())
    table = read_csv(path)
    assert table.names == ["a", "b;c"]
    assert table.cells.tolist() == [["1, 2", "x"], ["3", "two\nlines"]]
    assert table.lines.tolist() == [3, 5]


# ---- images -------------------------------------------------------------------------------------


def write_images(folder, count=12, size=8, colour=True, seed=0):
    """Stripes, across or along, in two folders."""
    rng = np.random.default_rng(seed)
    for name in ("across", "along"):
        (folder / name).mkdir(parents=True)
        for n in range(count):
            pixels = rng.integers(0, 80, (size, size, 3), dtype=np.uint8)
            pixels[(slice(None, None, 2), slice(None))[:: 1 if name == "across" else -1]] += 150
            image = Image.fromarray(pixels if colour else pixels[..., 0])
            image.save(folder / name / f"{n}.{'png' if n % 2 else 'jpg'}")
    (folder / ".notes").mkdir()
    (folder / ".notes" / "read me.txt").write_text("no image")
    return folder


def test_classes_of_a_folder_of_images(tmp_path):
    folder, run = write_images(tmp_path / "pictures", 20), tmp_path / "run"
    options = ("--patch", 2, "--epochs", 15, "--threads", 1, "--quiet", "--colour")
    good("train", "images", "--data", folder, *options, "--out", run)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["class_names"] == ["across", "along"]
    assert summary["test_samples"] == 8
    assert summary["test_accuracy"] > 0.7
    assert ftnn.load(run / "model.safetensors").in_dims == (13,) * 16  # 12 numbers, and 1
    assert "40 images of" in good("evaluate", run, "--data", folder)
    out = tmp_path / "predictions.csv"
    good("predict", run, "--data", folder / "across", "--out", out)
    predicted = columns_of(out)["prediction"]
    assert len(predicted) == 20
    assert set(predicted) <= {"across", "along"}
    single = folder / "across" / "1.png"
    good("predict", run, "--data", single, "--out", tmp_path / "single.csv")
    assert columns_of(tmp_path / "single.csv")["sample"] == (str(single),)
    (folder / "other").mkdir()
    assert "'other' has no PNG or JPEG" in refused("evaluate", run, "--data", folder)
    shutil.copy(folder / "across" / "1.png", folder / "other")
    assert "there is no class 'other'" in refused("evaluate", run, "--data", folder)
    Image.new("RGB", (9, 9)).save(folder / "across" / "x.png")
    line = refused("predict", run, "--data", folder / "across", "--out", tmp_path / "more.csv")
    assert "x.png: has 9 x 9 pixels, another size than the images of the training; resize" in line


@pytest.mark.parametrize("colour", [False, True])
def test_images_are_read_as_they_are(colour, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    (image,) = read_images([tmp_path / "x.png"], ImagesOptions(colour=colour))
    if colour:
        np.testing.assert_allclose(255 * image.reshape(4, 6, 3), pixels, rtol=1e-5)
    else:
        luma = pixels @ [0.299, 0.587, 0.114]
        np.testing.assert_allclose(255 * image, luma, atol=1.0)
    small = read_images([tmp_path / "x.png"], ImagesOptions(colour=colour, size=2))
    assert small.shape == (1, 2, 6 if colour else 2)


def test_wrong_folders_of_images(tmp_path):
    command = ("train", "images", "--out", tmp_path / "run")
    assert "--data is missing" in refused(*command)
    assert "no such folder" in refused(*command, "--data", tmp_path / "none")
    (tmp_path / "file").write_text("")
    assert "is a file, expected a folder" in refused(*command, "--data", tmp_path / "file")
    folder = write_images(tmp_path / "pictures")
    assert "does not divide 8 x 8" in refused(*command, "--data", folder, "--patch", 3)
    (folder / "few").mkdir()
    shutil.copy(folder / "along" / "1.png", folder / "few" / "1.png")
    assert "class 'few' has 1 images" in refused(*command, "--data", folder)
    shutil.rmtree(folder / "few")
    (folder / "blank").mkdir()
    assert "but 'blank' has no PNG or JPEG files; add images" in refused(*command, "--data", folder)
    (folder / "texts").mkdir()
    (folder / "texts" / "1.txt").write_text("no image")
    assert "'blank', 'texts' have no PNG or JPEG" in refused(*command, "--data", folder)
    shutil.rmtree(folder / "blank")
    shutil.rmtree(folder / "texts")
    (folder / "along" / "1.png").write_bytes(b"no picture")
    assert "1.png: not a readable PNG or JPEG file" in refused(*command, "--data", folder)
    Image.new("L", (8, 12)).save(folder / "along" / "1.png")
    line = refused(*command, "--data", folder)
    assert "1.png: has 12 x 8 pixels" in line
    assert "give --size N" in line
    shutil.rmtree(folder / "along")
    assert "expected two or more" in refused(*command, "--data", folder)
    assert not (tmp_path / "run").exists()


def test_options_are_flat_outside_of_python():
    options = get_experiment("images").options(data="x")
    assert flat(options)["epochs"] == options.train.epochs
    assert replace_values(options, {"phys": 7}).network.phys == 7
