"""Model files: round trips, and files that are not what they should be."""

import json

import numpy as np
import pytest
from laws import Chain
from safetensors.numpy import save_file

import ftnn
from ftnn.encoding import AmplitudeEncoder
from ftnn.nonlinear import KAN, RMSNorm


def model():
    dims = (4, 4, 4)
    return ftnn.Sequential(
        ftnn.Linear(dims, dims, 2, 3, seed=1),
        KAN(dims, share=True),
        RMSNorm(1e-4),
        ftnn.Residual(ftnn.Sequential(ftnn.Linear(dims, dims, 2, 2), RMSNorm()), 3, seed=4),
        ftnn.Readout(dims, 5, 3),
    )


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_loaded_model_gives_the_same_outputs(tmp_path, backend, dtype):
    path = tmp_path / "model.safetensors"
    original = model().to(backend, dtype)
    ftnn.save(original, path)
    loaded = ftnn.load(path)
    x = Chain(3, (4, 4, 4), (2, 2), "generic", 0).mps(dtype)
    assert (loaded(x) == original.to("numpy")(x)).all()
    assert loaded.named_arrays().keys() == original.named_arrays().keys()
    assert ftnn.load_encoder(path) is None
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_the_encoder_travels_with_the_model(tmp_path):
    encoder = AmplitudeEncoder((8, 8), max_bond=3, standardize="global")
    images = np.random.default_rng(0).random((4, 8, 8))
    ftnn.save(model(), tmp_path / "m", encoder.fit(images))
    again = ftnn.load_encoder(tmp_path / "m")
    assert again.config() == encoder.config()
    for a, b in zip(again.encode(images), encoder.encode(images), strict=True):
        assert (a == b).all()


def test_bad_files_are_named_and_left_alone(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(FileNotFoundError, match="does not exist"):
        ftnn.load(path)
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*none to save"):
        ftnn.save(model(), tmp_path / "none" / "model.safetensors")
    ftnn.save(model(), path)
    whole = path.read_bytes()
    for cut in (0, 7, 100, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="cut off"):
            ftnn.load(path)
        assert path.read_bytes() == whole[:cut]
    save_file({"a": np.ones(2)}, path)
    with pytest.raises(ValueError, match="not a model saved by"):
        ftnn.load(path)
    about = {"format": "ftnn-model-1", "model": {"type": "os.system", "config": {}, "children": {}}}
    save_file({"a": np.ones(2)}, path, {"ftnn": json.dumps(about)})
    with pytest.raises(ValueError, match="unknown layer type 'os"):
        ftnn.load(path)
    about["model"] = {
        "type": "Readout",
        "config": {"in_dims": [2], "num_outputs": 2, "bond_dim": 1},
        "children": {},
    }
    for arrays, words in (({}, "missing"), ({"model.weight.0": np.ones((1, 2, 3, 1))}, "shape")):
        save_file(arrays | {"x": np.ones(1)}, path, {"ftnn": json.dumps(about)})
        with pytest.raises(ValueError, match=words):
            ftnn.load(path)


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    ftnn.save(model(), path)
    old = path.read_bytes()

    def full_disk(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("ftnn.layers.files.os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        ftnn.save(model(), path)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
