"""Model files: round trips, and files that are not what they should be."""

import json
import os
import stat
import tracemalloc

import numpy as np
import pytest
from laws import Chain
from safetensors.numpy import save_file

import ftnn
from ftnn.encoding import AmplitudeEncoder
from ftnn.layers.containers import unpack
from ftnn.layers.files import dumps, loads
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
    with pytest.raises(FileNotFoundError, match=r"folder .*none of .* does not exist; create it"):
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


class Shifted(ftnn.Layer):
    """A layer as a user would write one: it has arguments, an array and a layer inside."""

    def __init__(self, inner, factor=2.0, sizes=(1, 2)):
        super().__init__(inner.in_dims, inner.out_dims)
        self.factor, self.sizes = factor, sizes
        self.children["inner"] = inner
        self.params["gain"] = np.ones(1)

    def apply(self, cores):
        first, *rest = self.children["inner"].apply(cores)
        return (first * self.factor * self.params["gain"], *rest)


def test_layers_of_ones_own_are_saved_and_loaded(tmp_path):
    path, dims = tmp_path / "model.safetensors", (4, 4, 4)
    layer = Shifted(ftnn.Linear(dims, dims, 2, 3), factor=3.0, sizes=(4,))
    layer.params["gain"] = np.full(1, 0.5)
    original = ftnn.Sequential(layer, RMSNorm())
    ftnn.save(original, path)
    again = ftnn.load(path)
    assert (again.layers[0].factor, again.layers[0].sizes) == (3.0, [4])
    x = Chain(3, dims, (2, 2), "generic", 0).mps()
    np.testing.assert_array_equal(again(x).to_dense(), original(x).to_dense())


class Forgetful(ftnn.Layer):
    def __init__(self, factor):
        super().__init__()

    def apply(self, cores):
        return cores


def namesake():
    class Linear(ftnn.Layer):
        def apply(self, cores):
            return cores

    return Linear()


def redefined():
    def make():
        class Twice(ftnn.Layer):
            def apply(self, cores):
                return cores

        return Twice()

    first = make()
    make()
    return first


def spoiled(value):
    layer = ftnn.Readout((2, 2), 3, 2)
    layer.params["weight.0"][0, 0, 0, 0] = value
    return layer


def mixed():
    layer = ftnn.Readout((2, 2), 3, 2)
    layer.params["weight.0"] = layer.params["weight.0"].astype(np.float32)
    return layer


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Forgetful(2.0), TypeError, "does not store its argument 'factor'; set self"),
        (namesake, ValueError, "has the name of another layer, ftnn.layers.linear.Linear"),
        (redefined, ValueError, "has the name of another layer"),
        (lambda: ftnn.nonlinear.Pointwise(np.tanh), ValueError, "fn of a Pointwise is a callable"),
        (lambda: Shifted(RMSNorm(), np.ones(2)), ValueError, "factor of a Shifted is a ndarray"),
        (lambda: spoiled(np.nan), ValueError, "weight.0' holds NaN"),
        (lambda: spoiled(np.inf), ValueError, "weight.0' holds NaN or infinite"),
        (mixed, ValueError, "are float32 and float64, expected a single one"),
    ],
)
def test_what_cannot_be_loaded_is_not_saved(tmp_path, make, error, words):
    with pytest.raises(error, match=words):
        ftnn.save(ftnn.Sequential(make()), tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def write(path, description, arrays, encoder=None):
    about = {"format": "ftnn-model-1", "model": description}
    if encoder is not None:
        about["encoder"] = encoder
    save_file(arrays, path, {"ftnn": json.dumps(about)})


def described(kind, children=None, **config):
    return {"type": kind, "config": config, "children": children or {}}


HUGE = {
    "bond": described("Readout", in_dims=[4] * 10, num_outputs=2, bond_dim=1000),
    "outputs": described("Readout", in_dims=[4], num_outputs=10**7, bond_dim=1),
    "operator": described("Expectation", in_dims=[4] * 10, num_outputs=2, bond_dim=1000),
    "sketch": described("SketchGauge", phys_dims=[40] * 8, max_bond=10**6),
    "linear": described("Linear", in_dims=[4] * 10, out_dims=[4] * 10, bond_dim=900, max_bond=2),
    "gated": described("Gated", in_dims=[4] * 10, out_dims=[4] * 10, bond_dim=900, max_bond=2),
    "sites": described("RMSNorm", phys_dims=[2] * 10**4),
    "many sites": described(
        "Linear", in_dims=[2] * 10**4, out_dims=[2] * 10**4, bond_dim=2, max_bond=2
    ),
    "dims": described("LayerNorm", phys_dims=[10**7, 2], max_bond=1),
    "knots": described("KAN", phys_dims=[2], basis="spline", grid=10**7),
    "hidden": described("FeatureMap", phys_dims=[2], out_dims=[2], hidden=10**7),
    "blocks": described("Coarsen", in_dims=[4] * 12, out_dims=[2, 2], bond_dim=1000),
    "powers": described("Polynomial", phys_dims=[30] * 9, coefficients=[0, 1], max_bond=10**6),
}


@pytest.mark.parametrize("name", HUGE)
@pytest.mark.parametrize("inside", [False, True])
def test_nothing_is_made_of_a_size_that_the_file_does_not_hold(tmp_path, name, inside):
    path, description = tmp_path / "model.safetensors", HUGE[name]
    if inside:
        description = described("Sequential", {"0": description})
    write(path, description, {"model.weight.0": np.ones(3)})
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"complete model: array .*(missing|has shape)"):
            ftnn.load(path)
        assert tracemalloc.get_traced_memory()[1] < 20e6  # 10^4 names and shapes, and no array
    finally:
        tracemalloc.stop()


def test_an_encoder_of_images_larger_than_the_file_is_not_made(tmp_path):
    path = tmp_path / "model.safetensors"
    about = {"type": "AmplitudeEncoder", "config": {"image_shape": [10**6, 10**6], "max_bond": 2}}
    write(path, described("RMSNorm"), {"encoder.mean": np.ones((2, 2))}, about)
    with pytest.raises(ValueError, match=r"encoder.mean has shape \(2, 2\), expected"):
        ftnn.load_encoder(path)


def nested(depth):
    description = described("RMSNorm")
    for _ in range(depth):
        description = described("Sequential", {"0": description})
    return description


@pytest.mark.parametrize(
    ("description", "arrays", "words"),
    [
        (nested(40), {}, "nested more than 32 deep"),
        (described("Mine"), {}, "unknown layer type 'Mine'; if it is your own layer, define"),
        (described(["Linear"]), {}, r"unknown layer type \['Linear'\]"),
        (described("Head", in_dims=[2], num_outputs=1, bond_dim=1, seed=0), {}, "abstract"),
        (described("RMSNorm", epsilon=1.0), {}, "epsilon"),
        ({"type": "RMSNorm"}, {}, "'children' is missing"),
        ({"type": "RMSNorm", "children": [], "config": {}}, {}, "children is a list"),
        ("RMSNorm", {}, "the description of a layer is a str"),
        (described("RMSNorm"), {"model.gain.0": np.ones(2)}, "has no array 'gain.0'"),
        (
            described("RMSNorm", phys_dims=[2]),
            {"model.gain.0": np.ones((1, 1, 2, 1), int)},
            "int64",
        ),
        (
            described("RMSNorm", phys_dims=[2]),
            {"model.gain.0": np.ones((1, 1, 2, 1), np.float16)},
            "float16, expected a single one of float32",
        ),
        (
            described("RMSNorm", phys_dims=[2]),
            {"model.gain.0": np.ones((1, 1, 2, 1), bool)},
            "bool",
        ),
        (
            described("RMSNorm", phys_dims=[2, 2]),
            {f"model.gain.{k}": np.ones((1, 1, 2, 1), f"float{32 * k + 32}") for k in range(2)},
            "float32 and float64",
        ),
        (
            described("RMSNorm", phys_dims=[2]),
            {"model.gain.0": np.full((1, 1, 2, 1), np.nan)},
            "'gain.0' holds NaN",
        ),
    ],
)
def test_what_a_file_says_is_checked(tmp_path, description, arrays, words):
    path = tmp_path / "model.safetensors"
    write(path, description, arrays | {"other": np.ones(1)})
    with pytest.raises(ValueError, match=words):
        ftnn.load(path)


def test_deep_json_is_no_model(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": np.ones(1)}, path, {"ftnn": "[" * 10**5 + "]" * 10**5})
    with pytest.raises(ValueError, match="not a model saved by"):
        ftnn.load(path)


def test_a_flipped_bit_is_found(tmp_path):
    path = tmp_path / "model.safetensors"
    ftnn.save(model(), path)
    whole = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), 40):
        spoiled = bytearray(whole)
        spoiled[place] ^= 4
        path.write_bytes(bytes(spoiled))
        with pytest.raises(ValueError, match=r"damaged|readable|complete|not a model"):
            ftnn.load(path)


def test_bytes_are_those_of_the_file_and_are_checked_as_well(tmp_path):
    encoder = AmplitudeEncoder((8, 8), max_bond=3).fit(np.ones((2, 8, 8)))
    ftnn.save(model(), tmp_path / "m", encoder)
    whole = dumps(model(), encoder)
    (tensors, metadata), (others, same) = map(unpack, (whole, (tmp_path / "m").read_bytes()))
    assert metadata == same  # whose order is that of a hash table
    assert tensors.keys() == others.keys()
    assert all((tensors[name] == others[name]).all() for name in tensors)
    again, its_encoder = loads(whole)
    x = Chain(3, (4, 4, 4), (2, 2), "generic", 0).mps("float64")
    assert (again(x) == model()(x)).all()
    assert its_encoder.config() == encoder.config()
    assert loads(dumps(model()))[1] is None
    for place in np.random.default_rng(0).integers(0, len(whole), 40):
        spoiled = bytearray(whole)
        spoiled[place] ^= 4
        with pytest.raises(ValueError, match=r"damaged|not in safetensors|complete|not a model"):
            loads(bytes(spoiled))
    for cut in (0, 7, 100, len(whole) - 1):
        with pytest.raises(ValueError, match="content is not in safetensors format"):
            loads(whole[:cut])


def test_files_have_the_permissions_of_the_umask(tmp_path):
    for mask, expected in ((0o022, 0o644), (0o027, 0o640)):
        path, before = tmp_path / f"{mask}.safetensors", os.umask(mask)
        try:
            ftnn.save(RMSNorm(phys_dims=(2,)), path)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == expected


def test_the_folder_is_flushed_after_the_file(tmp_path, monkeypatch):
    flushed, fsync = [], os.fsync

    def record(descriptor):
        flushed.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        fsync(descriptor)

    monkeypatch.setattr("ftnn.layers.files.os.fsync", record)
    ftnn.save(RMSNorm(phys_dims=(2,)), tmp_path / "model.safetensors")
    assert flushed == [False, True]
