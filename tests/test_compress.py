"""`ftnn compress`: exported programs get their layers back, and come out smaller."""

import json
import zipfile

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn
from typer.testing import CliRunner

from ftnn.cli.main import app
from ftnn.tensorized import tensorize
from ftnn.tensorized.exported import load_exported, save_exported

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")


class Net(nn.Module):
    """Every kind of layer; one of them is called twice, and two have one weight."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(40, 24, padding_idx=0)
        self.inner = nn.Sequential(nn.Conv1d(24, 32, 3, padding="same"), nn.ReLU())
        self.plane = nn.Conv2d(1, 4, (3, 5), stride=2, padding=1, dilation=(1, 2), groups=1)
        self.twice = nn.Linear(32, 32, bias=False)
        self.one, self.other = nn.Linear(32, 24), nn.Linear(24, 40, bias=False)
        self.other.weight = self.table.weight
        self.norm = nn.BatchNorm1d(32)

    def forward(self, x):
        y = self.norm(self.inner(self.table(x).transpose(1, 2)))
        z = self.plane(y[:, None]).flatten(1).mean(1, keepdim=True)
        y = self.twice(torch.tanh(self.twice(y.mean(-1))))
        return self.other(self.one(y)) + z


def exported(path, model, x, dynamic=True):
    shapes = ({0: torch.export.Dim("batch", min=1)},) if dynamic else None
    torch.export.save(torch.export.export(model.eval(), (x,), dynamic_shapes=shapes), path)
    return path


@pytest.mark.parametrize("dynamic", [True, False])
def test_layers_of_a_program_come_back_and_it_is_exported_again(tmp_path, dynamic):
    torch.manual_seed(0)
    model, x = Net(), torch.randint(0, 40, (6, 9))
    path = exported(tmp_path / "net.pt2", model, x, dynamic)
    found, program = load_exported(path)
    for name in ("inner.0", "plane", "twice", "one"):
        assert repr(found.get_submodule(name)) == repr(model.get_submodule(name))
    assert torch.equal(found(x), model(x))
    assert sum(p.numel() for p in found.parameters()) == sum(p.numel() for p in model.parameters())
    small = tensorize(found, [x], params=0.7)
    assert {row.name for row in small.rows if row.format != "dense"} & {"twice", "inner.0", "one"}
    rows = {row.name: row for row in small.rows}
    assert all(rows[name].format == "dense" for name in ("table", "other") if name in rows)
    save_exported(small.model, program, tmp_path / "small.pt2")
    again = torch.export.load(tmp_path / "small.pt2").module()
    torch.testing.assert_close(again(x), small.model(x), rtol=1e-5, atol=1e-5)
    stored = {p.data_ptr(): p.numel() for p in again.parameters()}  # torch lists tied ones twice
    assert sum(stored.values()) == small.params < 0.7 * small.dense_params
    if dynamic:
        torch.testing.assert_close(again(x[:2]), small.model(x[:2]), rtol=1e-5, atol=1e-5)


def classifier(tmp_path, dynamic=True):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 4)).eval()
    x = torch.randn(300, 20)
    return model, x, exported(tmp_path / "model.pt2", model, x[:50], dynamic)


def compress(*arguments):
    return CliRunner().invoke(app, ["compress", *map(str, arguments)])


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors", "labels"])
def test_the_command_writes_a_smaller_program(tmp_path, kind):
    model, x, path = classifier(tmp_path)
    data = tmp_path / f"data.{'npz' if kind == 'labels' else kind}"
    arrays = {"inputs": x.numpy()}
    if kind == "labels":
        arrays["labels"] = model(x).argmax(1).numpy()
    if kind == "npy":
        np.save(data, x.numpy())
    elif kind == "safetensors":
        save_file(arrays, data)
    else:
        np.savez(data, **arrays)
    out = tmp_path / "small.pt2"
    result = compress(path, "--data", data, "--params", 0.5, "--out", out, "--batch-size", 100)
    assert result.exit_code == 0, result.stderr
    assert ("nats" in result.stdout) == (kind == "labels")
    assert "healed by layers: from" in result.stdout
    small = torch.export.load(out).module()
    assert sum(p.numel() for p in small.parameters()) <= 0.5 * 1604
    with torch.no_grad():
        gap, size = small(x) - model(x), model(x).norm()
    assert gap.shape == (300, 4)
    assert float(gap.norm() / size) < 0.7
    again = compress(path, "--data", data, "--params", 0.5, "--out", out)
    assert again.exit_code == 2
    assert "small.pt2 exists; choose another file" in again.stderr


def test_a_program_for_one_size_of_batches_gets_these(tmp_path):
    _, x, path = classifier(tmp_path, dynamic=False)
    np.save(tmp_path / "data.npy", x.numpy()[:120])
    np.save(tmp_path / "few.npy", x.numpy()[:20])
    given = (path, "--ratio", 2, "--out", tmp_path / "small.pt2", "--data")
    assert compress(*given, tmp_path / "data.npy").exit_code == 0
    few = compress(path, "--ratio", 2, "--out", tmp_path / "b.pt2", "--data", tmp_path / "few.npy")
    assert few.exit_code == 2
    assert "has 20 samples, but the model was exported for batches of 50" in few.stderr


def test_wrong_input_is_one_line(tmp_path):
    _, x, path = classifier(tmp_path)
    data, out = tmp_path / "data.npz", tmp_path / "small.pt2"
    np.savez(data, inputs=x.numpy())
    np.savez(tmp_path / "other.npz", images=x.numpy())
    np.savez(tmp_path / "wide.npz", inputs=x.numpy()[:, :7])
    np.savez(tmp_path / "uneven.npz", inputs=x.numpy(), labels=np.zeros(3, int))
    (tmp_path / "cut.pt2").write_bytes(path.read_bytes()[:2000])
    (tmp_path / "table.csv").write_text("1,2\n")
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "zip.pt2", "w") as file:
        file.writestr("a.json", json.dumps({}))
    budget = ("--params", 0.5)
    cases = [
        ((path, "--data", data), "none of params, ratio and max_error is given"),
        ((path, "--data", data, *budget, "--ratio", 2), "params and ratio are given"),
        ((path, "--data", data, "--params", 1e-4), "the smallest that can be met is"),
        ((path, "--data", data, *budget, "--formats", "qr"), "formats has 'qr'"),
        ((path, "--data", data, *budget, "--skip", "x"), "skip has 'x'"),
        ((path, "--data", tmp_path / "other.npz", *budget), "has images, but no array 'inputs'"),
        ((path, "--data", tmp_path / "wide.npz", *budget), "samples have shape (7,)"),
        ((path, "--data", tmp_path / "uneven.npz", *budget), "300 inputs and 3 labels"),
        ((path, "--data", tmp_path / "none.npz", *budget), "does not exist"),
        ((path, "--data", tmp_path / "table.csv", *budget), "expected .npy, .npz or"),
        ((path, "--data", tmp_path / "pickled.npy", *budget), "allow_pickle=False"),
        ((tmp_path / "cut.pt2", "--data", data, *budget), "is not a file of torch.export.save"),
        ((tmp_path / "zip.pt2", "--data", data, *budget), "is not a file of torch.export.save"),
        ((tmp_path / "no.pt2", "--data", data, *budget), "does not exist"),
        ((tmp_path, "--data", data, *budget), "is not a run folder: it has no config.json"),
        ((path, *budget), "--data is missing; give a file with inputs of the training data"),
    ]
    for arguments, words in cases:
        result = compress(*arguments, "--out", out)
        assert result.exit_code == 2, arguments
        assert words in result.stderr, result.stderr
        assert result.stderr.count("\n") == 1, result.stderr
        assert not out.exists()
    missing = compress(path, "--data", data, *budget, "--out", tmp_path / "none" / "small.pt2")
    assert missing.exit_code == 2
    assert "does not exist; create it" in missing.stderr
