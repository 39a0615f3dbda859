"""Checkpoints: what is written comes back, and no crash or damage loses anything."""

import contextlib
import errno
import json
import math
import os
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from test_trainer import (
    CONFIG,
    DIMS,
    Recorder,
    StopAt,
    arrays,
    make_data,
    make_model,
    make_trainer,
    same,
)

import ftnn

torch = pytest.importorskip("torch")
from ftnn.layers.containers import read_tensors  # noqa: E402
from ftnn.training import Callback, checkpoint, metrics  # noqa: E402
from ftnn.training.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def tensor_file(folder):
    (path,) = folder.glob("checkpoint-*.safetensors")
    return path


def equal(first, second):
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)):
        return type(first) is type(second) and all(map(equal, first, second))
    return type(first) is type(second) and (first == second or math.isnan(first))


def test_a_tree_comes_back(tmp_path):
    tree = {
        "numbers": [1, 0.1, 1e-300, math.inf, -math.inf, math.nan, True, None, "text"],
        "betas": (0.9, (0.99,)),
        "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.randn(2, 3)}, 7: {}},
        "scalars": {"f64": torch.tensor(0.1, dtype=torch.float64), "i": torch.tensor(5)},
        "nan": torch.tensor(math.nan),
        "empty": torch.zeros(0, 2),
        "f64": torch.randn(4, dtype=torch.float64),
        "$tensor": "a key that looks like a wrapper",
    }
    save_checkpoint(tmp_path, tree, 3)
    back = load_checkpoint(tmp_path)
    assert equal(tree | {"nan": 0}, back | {"nan": 0})
    assert torch.isnan(back["nan"])
    json.loads(
        (tmp_path / "checkpoint.json").read_text(), parse_constant=lambda text: pytest.fail(text)
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.AdamW(p, 0.1, betas=(0.8, 0.9), fused=True),
        lambda p: torch.optim.Adam(p, 0.1, amsgrad=True),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, 0.1),
        lambda p: torch.optim.RMSprop(p, 0.1, centered=True),
        lambda p: torch.optim.Adagrad(p, 0.1),
    ],
)
def test_any_optimizer_comes_back(tmp_path, make):
    def steps(params, optimizer, first, last):
        for n in range(first, last):
            optimizer.zero_grad()
            sum(((p - n) ** 2).sum() * (k + 1) for k, p in enumerate(params)).backward()
            optimizer.step()

    def fresh():
        torch.manual_seed(0)
        params = [torch.nn.Parameter(torch.randn(3, 2)), torch.nn.Parameter(torch.randn(5))]
        return params, make(params)

    params, optimizer = fresh()
    steps(params, optimizer, 0, 3)
    save_checkpoint(tmp_path, {"p": [p.detach() for p in params], "o": optimizer.state_dict()}, 3)
    steps(params, optimizer, 3, 6)
    others, other = fresh()
    back = load_checkpoint(tmp_path)
    other.load_state_dict(back["o"])
    with torch.no_grad():
        for p, value in zip(others, back["p"], strict=True):
            p.copy_(value)
    steps(others, other, 3, 6)
    assert all(torch.equal(a, b) for a, b in zip(params, others, strict=True))


def test_what_cannot_be_held_is_named():
    with pytest.raises(TypeError, match=r"a\.b is a set"):
        checkpoint.pack({"a": {"b": {1}}}, {})


# ---- crashes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["tensors", "json-write", "json-replace"])
def test_a_crash_while_writing_leaves_the_last_checkpoint(tmp_path, monkeypatch, victim):
    save_checkpoint(tmp_path, {"x": torch.ones(3)}, 1)
    replace_file = os.replace

    def crash(source, target):
        json_is_meant = str(target).endswith(".json")
        if json_is_meant == (victim == "json-replace"):
            raise OSError("the power went out")
        replace_file(source, target)

    with monkeypatch.context() as patch:
        if victim == "json-write":
            patch.setattr(checkpoint, "write_json", crash)
        else:
            patch.setattr(os, "replace", crash)
        with pytest.raises((OSError, TypeError)):
            save_checkpoint(tmp_path, {"x": torch.zeros(3)}, 2)
    assert torch.equal(load_checkpoint(tmp_path)["x"], torch.ones(3))
    save_checkpoint(tmp_path, {"x": torch.full((3,), 2.0)}, 3)
    assert torch.equal(load_checkpoint(tmp_path)["x"], torch.full((3,), 2.0))
    assert len(list(tmp_path.iterdir())) == 2  # nothing is left over


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / ".checkpoint.json.123.part").write_text("half")
    (tmp_path / ".checkpoint-00000001-abc.safetensors.123.part").write_text("half")
    save_checkpoint(tmp_path, {"x": torch.ones(3)}, 1)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".safetensors"]


@pytest.mark.parametrize("moment", ["model", "metrics", "tensors", "json"])
def test_killed_at_the_end_of_an_epoch(tmp_path, monkeypatch, moment):
    """Whatever was written last, resuming gives the result and the lines of a whole run."""

    class Killed(BaseException):
        pass

    from ftnn.training import callbacks, fit

    data = make_data()
    whole = make_trainer(tmp_path / "whole")
    whole.fit(data)
    owner, name, call = {
        "model": (fit, "save", 2),
        "metrics": (callbacks, "append_metrics", 2),
        "tensors": (fit, "save_checkpoint", 3),  # the first is at the start
        "json": (checkpoint, "write_json", 3),
    }[moment]
    plain, count = getattr(owner, name), 0

    def killed(*args):
        nonlocal count
        count += 1
        if count == call and moment in ("tensors", "json"):
            raise Killed
        plain(*args)
        if count == call:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killed)
        with pytest.raises(Killed):
            make_trainer(tmp_path / "run").fit(data)
    resumed = make_trainer(tmp_path / "run", model=make_model(seed=5))
    result = resumed.fit(data, resume=True)
    assert same(arrays(whole.model), arrays(resumed.model))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4]
    assert len(result.history) == 4


def test_checkpoints_within_an_epoch(tmp_path):
    recorder = Recorder(lambda fit: load_checkpoint(tmp_path)["update"]["steps"])
    config = replace(CONFIG, epochs=1, checkpoint_seconds=1e-9)
    make_trainer(tmp_path, config, callbacks=[recorder]).fit(make_data())
    assert recorder.steps == [0, 1, 2, 3, 4]
    assert load_checkpoint(tmp_path)["update"]["steps"] == 5


# ---- damage --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped")
    make_trainer(folder, callbacks=[StopAt(7)]).fit(make_data())
    return contents(folder)


def cut(path, part=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])


def edit(path, change, seal=True):
    """Change a checkpoint as somebody would who knows its digest, or does not."""
    about = json.loads(path.read_text())
    change(about)
    if seal:
        digest = checkpoint._digest(read_tensors(tensor_file(path.parent))[0])
        about["digest"] = checkpoint.digest_of(about.get("content"), digest)
    path.write_text(json.dumps(about))


DAMAGE = {
    "cut tensors": (lambda d: cut(tensor_file(d)), "cut off"),
    "cut a little": (lambda d: cut(tensor_file(d), 0.999), "cut off"),
    "empty tensors": (lambda d: tensor_file(d).write_bytes(b""), "cut off"),
    "missing tensors": (lambda d: tensor_file(d).unlink(), "is missing"),
    "foreign tensors": (
        lambda d: ftnn.save(ftnn.Readout((2,), 2, 1), tensor_file(d)),
        "not what was written together",
    ),
    "flipped byte": (
        lambda d: tensor_file(d).write_bytes(tensor_file(d).read_bytes()[:-1] + b"\x7f"),
        "is damaged",
    ),
    "cut JSON": (lambda d: cut(d / "checkpoint.json"), "not valid JSON"),
    "binary JSON": (lambda d: (d / "checkpoint.json").write_bytes(b"\xff\xfe\x00"), "not valid"),
    "empty JSON": (lambda d: (d / "checkpoint.json").write_text(""), "not valid JSON"),
    "other JSON": (lambda d: (d / "checkpoint.json").write_text("[1, 2]"), "not a checkpoint"),
    "JSON of another version": (
        lambda d: edit(d / "checkpoint.json", lambda a: a.update(format="ftnn-checkpoint-99")),
        "not a checkpoint of ftnn",
    ),
    "path outside": (
        lambda d: edit(d / "checkpoint.json", lambda a: a.update(tensors="../x.safetensors")),
        "does not name its tensor file",
    ),
    "changed JSON": (
        lambda d: edit(
            d / "checkpoint.json", lambda a: a["content"]["training"].update(steps_done=1), False
        ),
        "not what was written together",
    ),
    "no name": (
        lambda d: edit(d / "checkpoint.json", lambda a: a.update(tensors="")),
        "does not name its tensor file",
    ),
    "no content": (lambda d: edit(d / "checkpoint.json", lambda a: a.pop("content")), "incomplete"),
    "no update": (
        lambda d: edit(d / "checkpoint.json", lambda a: a["content"].pop("update")),
        "incomplete",
    ),
    "no optimizer": (
        lambda d: edit(d / "checkpoint.json", lambda a: a["content"]["update"].pop("optimizer")),
        "incomplete",
    ),
    "unknown state": (
        lambda d: edit(d / "checkpoint.json", lambda a: a["content"]["training"].update(x=1)),
        "incomplete",
    ),
    "no such tensor": (
        lambda d: edit(
            d / "checkpoint.json",
            lambda a: a["content"]["update"]["model"].update({"0.weight.0": {"$tensor": "?"}}),
        ),
        "incomplete",
    ),
    "no metrics": (lambda d: (d / "metrics.jsonl").unlink(), "has 0 lines"),
    "broken metrics": (
        lambda d: (d / "metrics.jsonl").write_text("{\n"),
        "line 1 is not valid JSON",
    ),
    "no model": (lambda d: (d / "model.safetensors").unlink(), "does not exist"),
    "cut model": (lambda d: cut(d / "model.safetensors"), "cut off"),
    "other model": (
        lambda d: ftnn.save(ftnn.Readout((2,), 2, 1), d / "model.safetensors"),
        "that of another model",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_one_clear_line_and_nothing_changes(tmp_path, stopped_run, case):
    damage, message = DAMAGE[case]
    for name, data in stopped_run.items():
        (tmp_path / name).write_bytes(data)
    damage(tmp_path)
    before = contents(tmp_path)
    trainer = make_trainer(tmp_path)
    weights = arrays(trainer.model)
    with pytest.raises(ValueError, match=message) as error:
        trainer.fit(make_data(), resume=True)
    text = str(error.value)
    assert "\n" not in text
    assert str(tmp_path) in text
    assert any(word in text for word in ("restore", "train again"))
    assert contents(tmp_path) == before
    assert same(weights, arrays(trainer.model))


def other_model(*layers):
    return ftnn.Sequential(*layers)


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        (
            r"its array '0\.weight\.0' is \(1, 4, 4, 2\) torch.float32, but that of this model",
            {
                "model": other_model(
                    ftnn.Linear(DIMS, (5, 5, 5), 2, 4),
                    ftnn.nonlinear.RMSNorm(),
                    ftnn.Readout((5, 5, 5), 3, 3),
                )
            },
        ),
        (r"it has an array '0\.bias\.0'", {"model": other_model(ftnn.Readout(DIMS, 3, 3))}),
        ("trained with lr 0.03 .now 0.5.", {"config": replace(CONFIG, lr=0.5)}),
        ("optimizer 'adamw' .now 'sgd'.", {"config": replace(CONFIG, optimizer="sgd")}),
        ("trained with epochs 4", {"config": replace(CONFIG, epochs=9)}),
        ("trained with dtype", {"config": replace(CONFIG, dtype="float64")}),
        ("other samples", {"data": make_data(seed=4)}),
        ("other samples", {"data": make_data(train=79)}),
    ],
)
def test_a_checkpoint_of_something_else(tmp_path, stopped_run, message, changes):
    for name, data in stopped_run.items():
        (tmp_path / name).write_bytes(data)
    before = contents(tmp_path)
    data = changes.pop("data", make_data())
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, **changes).fit(data, resume=True)
    assert contents(tmp_path) == before


def test_what_may_change_on_resuming(tmp_path, stopped_run):
    for name, data in stopped_run.items():
        (tmp_path / name).write_bytes(data)
    config = replace(CONFIG, patience=50, checkpoint_seconds=60.0, threads=None, device="auto")
    result = make_trainer(tmp_path, config).fit(make_data(), resume=True)
    assert result.outcome == "completed"


# ---- metrics -------------------------------------------------------------------------------------


def test_metrics_drop_what_the_checkpoint_does_not_know(tmp_path, stopped_run):
    for name, data in stopped_run.items():
        (tmp_path / name).write_bytes(data)
    path = tmp_path / "metrics.jsonl"
    assert len(path.read_text().splitlines()) == 1
    path.write_text(path.read_text() + '{"epoch": 2, "train_loss": 9.0}\n{"epoch": 3, "tr')
    make_trainer(tmp_path).fit(make_data(), resume=True)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert lines[1]["train_loss"] != 9.0


def test_metrics_never_hold_invalid_json(tmp_path):
    numbers = {"a": float("nan"), "b": [np.float32("inf"), np.int64(3)], "c": np.ones(2)}
    record = {"epoch": 1} | numbers
    metrics.append_metrics(tmp_path, record)
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text) == {"epoch": 1, "a": None, "b": [None, 3], "c": [1.0, 1.0]}
    assert metrics.read_metrics(tmp_path) == [json.loads(text)]


BROKEN_LINES = {
    "text": ('{"epoch": 1, "train_loss": "low"}', "train_loss is 'low', expected a number"),
    "truth": ('{"epoch": 1, "lr": true}', "lr is True, expected a number"),
    "text by layer": (
        '{"epoch": 1, "truncation_error": {"0": "x"}}',
        "truncation_error of layer '0' is 'x', expected a number",
    ),
    "text in a list": ('{"epoch": 1, "entropies": {"2": [0.5, []]}}', "entropies of layer '2' is"),
    "no object": ('{"epoch": 1, "bond_dims": [3]}', r"bond_dims is \[3\], expected an object"),
    "epoch": ('{"epoch": 1.5}', "epoch is 1.5, expected a count"),
    "huge": ('{"epoch": 1, "lr": 1' + "0" * 400 + "}", "lr is an integer beyond 64 bits"),
    "long": ('{"epoch": 1, "lr": 18446744073709551616}', "lr is an integer beyond 64 bits"),
    "large": ('{"epoch": 1, "lr": 1e301}', "lr is 1e.301, expected a number below 1e.200"),
    "no epoch": ('{"train_loss": 1.0}', "epoch is missing"),
    "nested": ('{"epoch": ' + "[" * 100_000, "nested too deeply"),
    "digits": ('{"epoch": ' + "9" * 10_000 + "}", "not valid JSON"),
    "list": ("[1]", "not a JSON object"),
}


@pytest.mark.parametrize("case", BROKEN_LINES)
def test_broken_metrics_are_named_by_file_line_and_key(tmp_path, case):
    line, message = BROKEN_LINES[case]
    good = '{"epoch": 1, "train_loss": 0.5, "val_loss": null, "entropies": {"0": [0.1, null]}}'
    (tmp_path / "metrics.jsonl").write_text(f"{good}\n{line}\n")
    assert metrics.read_metrics(tmp_path, 1) == [json.loads(good)]
    with pytest.raises(ValueError, match=message) as error:
        metrics.read_metrics(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'metrics.jsonl'}, line 2")
    assert len(str(error.value)) < 400


# ---- full and read-only disks --------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 200 kB, where one may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(path):
    """Write until there is no space left."""
    number = os.open(path, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(number, b"x" * 4096)
    os.close(number)


def test_a_full_disk_is_one_clear_line_and_nothing_saved_is_lost(tmp_path, small_disk):
    whole = make_trainer(tmp_path / "whole")
    whole.fit(make_data())
    folder = small_disk / "run"

    class Fill(Callback):
        def epoch_end(self, fit, record):
            if record["epoch"] == 2:
                fill(small_disk / "other")

    with pytest.raises(OSError, match="no space left") as error:
        make_trainer(folder, callbacks=[Fill()]).fit(make_data())
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)
    assert "free some space" in str(error.value)
    (small_disk / "other").unlink()
    result = make_trainer(folder).fit(make_data(), resume=True)
    assert result.outcome == "completed"
    trainer = make_trainer(folder)
    trainer.fit(make_data(), resume=True)
    assert same(arrays(whole.model), arrays(trainer.model))


def test_a_line_of_metrics_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    metrics.append_metrics(tmp_path, {"epoch": 1})
    before = (tmp_path / "metrics.jsonl").read_bytes()
    write, written = os.write, []

    def full(number, data):
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(write(number, data[:3]))
        return 3

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match=r"cannot write .* no space left") as error:
            metrics.append_metrics(tmp_path, {"epoch": 2})
    assert error.value.errno == errno.ENOSPC
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_resuming_in_a_read_only_folder_says_so(tmp_path, stopped_run):
    for name, data in stopped_run.items():
        (tmp_path / name).write_bytes(data)
    before = contents(tmp_path)
    mount = ["mount", "-o", "bind,ro", str(tmp_path), str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a read-only file system cannot be mounted here")
    try:
        with pytest.raises(OSError, match="read-only; use a copy"):
            make_trainer(tmp_path).fit(make_data(), resume=True)
        with pytest.raises(OSError, match="read-only; use a copy"):
            make_trainer(tmp_path / "new").fit(make_data())
        assert ftnn.load(tmp_path / "model.safetensors").num_params() > 0
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert contents(tmp_path) == before


def test_a_flipped_bit_of_the_model_is_found(tmp_path, stopped_run):
    for name, data in stopped_run.items():
        (tmp_path / name).write_bytes(data)
    path = tmp_path / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="is damaged"):
        ftnn.load(path)
    with pytest.raises(ValueError, match="is damaged"):
        make_trainer(tmp_path).fit(make_data(), resume=True)
