"""Data sets: splits that do not leak, an idx reader that trusts nothing, one clear error each."""

import gzip
import hashlib
import struct

import numpy as np
import pytest
import torch
from laws import assert_close, dense

from ftnn.encoding import AmplitudeEncoder
from ftnn.experiments.digits.data import load_digits
from ftnn.experiments.fashion_mnist import data as module
from ftnn.experiments.fashion_mnist.data import load_fashion_mnist, read_idx
from ftnn.experiments.fashion_mnist.model import mirror_images
from ftnn.experiments.fashion_mnist_quantics.model import mirror

DASHED = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def publish(monkeypatch, arrays):
    """Let these arrays be the published ones."""
    digests = [hashlib.sha256(array.astype(np.uint8).tobytes()).hexdigest() for array in arrays]
    monkeypatch.setattr(module, "SHA256", dict(zip(module.SHA256, digests, strict=True)))


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return (
        rng.integers(0, 256, (240, 28, 28)),
        np.arange(240) % 10,
        rng.integers(0, 256, (30, 28, 28)),
        np.arange(30) % 10,
    )


@pytest.fixture
def folder(tmp_path, arrays, monkeypatch):
    publish(monkeypatch, arrays)
    for name, array in zip(DASHED, arrays, strict=True):
        (tmp_path / f"{name}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    return tmp_path


def rows(images):
    return {image.tobytes() for image in images}


def test_digits_have_a_fixed_test_set_and_seeded_validation():
    first, again, other = load_digits(0), load_digits(0), load_digits(1)
    for part in ("train", "val", "test"):
        np.testing.assert_array_equal(first.split(part)[0], again.split(part)[0])
    np.testing.assert_array_equal(first.test_inputs, other.test_inputs)
    np.testing.assert_array_equal(first.test_targets, other.test_targets)
    assert not np.array_equal(first.val_inputs, other.val_inputs)
    assert first.train_inputs.dtype == np.float32
    assert first.train_inputs.min() == 0.0
    assert first.train_inputs.max() == 1.0


def test_digits_are_split_without_leaks_and_stratified():
    from sklearn.datasets import load_digits as original

    found = load_digits(3)
    parts = [found.split(part) for part in ("train", "val", "test")]
    everything = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    source = (original().images / 16).astype(np.float32)

    def key(images):
        return sorted(image.tobytes() for image in images)

    assert key(everything) == key(source)  # every image once
    share = np.bincount(labels) / len(labels)
    for _, part in parts:
        np.testing.assert_allclose(np.bincount(part) / len(part), share, atol=0.01)


def test_labels_stay_with_their_images(folder, arrays):
    found = load_fashion_mnist(folder, seed=5)
    label_of = {
        image.astype(np.uint8).tobytes(): label
        for images, labels in (arrays[:2], arrays[2:])
        for image, label in zip(images, labels, strict=True)
    }
    for part in ("train", "val", "test"):
        for image, label in zip(*found.split(part), strict=True):
            assert label_of[np.rint(image * 255).astype(np.uint8).tobytes()] == label


def test_fashion_mnist_splits(folder):
    found, other = load_fashion_mnist(folder), load_fashion_mnist(folder, seed=1)
    assert [len(found.split(p)[1]) for p in ("train", "val", "test")] == [220, 20, 30]
    assert np.bincount(found.val_targets).tolist() == [2] * 10
    assert not rows(found.train_inputs) & rows(found.val_inputs)
    np.testing.assert_array_equal(found.test_inputs, other.test_inputs)
    assert rows(found.val_inputs) != rows(other.val_inputs)
    assert found.train_inputs.dtype == np.float32
    assert found.train_inputs.max() == 1.0
    assert len(found.class_names) == 10
    assert found.train_targets.dtype == np.int64


@pytest.mark.parametrize("separator", ["-", "."])
@pytest.mark.parametrize("zipped", [True, False])
def test_both_spellings_gzipped_or_not(tmp_path, folder, arrays, separator, zipped):
    other = tmp_path / "other"
    other.mkdir()
    for name, array in zip(DASHED, arrays, strict=True):
        stem, kind = name.rsplit("-", 1)
        raw = gzip.compress(idx(array)) if zipped else idx(array)
        path = other / f"{stem}{separator}{kind}-ubyte{'.gz' if zipped else ''}"
        path.write_bytes(raw)
    first, second = load_fashion_mnist(folder), load_fashion_mnist(other)
    np.testing.assert_array_equal(first.train_inputs, second.train_inputs)
    np.testing.assert_array_equal(first.test_targets, second.test_targets)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (4, 2, 5), (0, 7)])
def test_idx_round_trip(tmp_path, shape):
    array = np.random.default_rng(1).integers(0, 256, shape)
    path = tmp_path / "file"
    path.write_bytes(idx(array))
    np.testing.assert_array_equal(read_idx(path), array)


GOOD = idx(np.arange(24).reshape(2, 3, 4))


# The ids are given: those made of the bytes differ from one collection to the next (gzip writes
# the time), which pytest-xdist refuses.
@pytest.mark.parametrize(
    ("raw", "words"),
    [
        pytest.param(b"", "not an idx file", id="empty"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(60), "not an idx file", id="png"),
        pytest.param(b"\0\0\x0d\x01" + bytes(8), "not an idx file", id="floats"),
        pytest.param(b"\0\0\x08\0", "not an idx file", id="no-dimension"),
        pytest.param(GOOD[:9], "truncated in its header", id="cut-header"),
        pytest.param(GOOD[:-1], "announces 24 entries", id="too-short"),
        pytest.param(GOOD + b"\0", "announces 24 entries", id="too-long"),
        pytest.param(b"\0\0\x08\x03" + b"\xff" * 12, "announces", id="astronomic"),
        pytest.param(gzip.compress(GOOD)[:-9], "damaged gzip", id="cut-gzip"),
        pytest.param(gzip.compress(GOOD)[:12] + b"garbage" * 3, "damaged gzip", id="garbage-gzip"),
        pytest.param(gzip.compress(b"hello"), "not an idx file", id="gzipped-text"),
    ],
)
def test_foreign_and_truncated_files_are_named(tmp_path, raw, words):
    path = tmp_path / "some-file"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=words) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("train-images-idx3-ubyte.gz", np.zeros((240, 8, 8)), r"expected \(n, 28, 28\)"),
        ("train-labels-idx1-ubyte.gz", np.zeros((240, 1)), r"expected \(n,\)"),
        ("train-labels-idx1-ubyte.gz", np.zeros(239), "240 train images, but 239 labels"),
        ("t10k-labels-idx1-ubyte.gz", np.full(30, 10), "label 10, expected 0 to 9"),
        ("t10k-images-idx3-ubyte.gz", np.zeros((0, 28, 28)), "is empty"),
    ],
)
def test_wrong_contents_are_named(folder, name, array, words):
    (folder / name).write_bytes(gzip.compress(idx(array)))
    with pytest.raises(ValueError, match=words):
        load_fashion_mnist(folder)


def test_missing_files_and_folders_are_named(folder):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load_fashion_mnist(folder / "nowhere")
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match="holds no t10k-labels-idx1-ubyte"):
        load_fashion_mnist(folder)


def test_the_published_arrays_are_those_of_every_source():
    if not (module.DEBIAN_FOLDER / "train-images-idx3-ubyte.gz").is_file():
        pytest.skip("dataset-fashion-mnist is not installed")
    assert len(load_fashion_mnist().train_targets) == 55_000  # checked by its digests


def test_a_damaged_array_among_published_ones_is_an_error(folder, arrays, monkeypatch):
    wrong = arrays[2].copy()
    wrong[7, 3, 5] ^= 1
    path = folder / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(wrong)))
    with pytest.raises(ValueError, match=r"test_images of Fashion-MNIST differ .* fetch them"):
        load_fashion_mnist(folder)
    monkeypatch.setattr(module, "DEBIAN_FOLDER", folder)
    with pytest.raises(ValueError, match=r"test_images of Fashion-MNIST .* apt install --rein"):
        load_fashion_mnist()


def test_another_data_set_is_named_by_a_warning(folder, arrays, monkeypatch):
    publish(monkeypatch, [array[:-1] for array in arrays])
    with pytest.warns(UserWarning, match="is not Fashion-MNIST"):
        other = load_fashion_mnist(folder)
    assert other.class_names == tuple("0123456789")


def test_too_few_images_to_split(folder, arrays, monkeypatch):
    publish(monkeypatch, [*(array[:40] for array in arrays[:2]), *arrays[2:]])
    for name, array in zip(DASHED[:2], arrays[:2], strict=True):
        (folder / f"{name}-ubyte.gz").write_bytes(gzip.compress(idx(array[:40])))
    with pytest.raises(ValueError, match="too few"):
        load_fashion_mnist(folder)


def test_debian_comes_before_openml(monkeypatch, folder):
    monkeypatch.setattr(module, "DEBIAN_FOLDER", folder)
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda *a, **k: pytest.fail("fetched"))
    assert len(load_fashion_mnist().test_targets) == 30


def test_offline_one_message_says_what_to_do(monkeypatch, tmp_path):
    def fetch(*args, **kwargs):
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr(module, "DEBIAN_FOLDER", tmp_path / "nowhere")
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    with pytest.raises(FileNotFoundError) as caught:
        load_fashion_mnist()
    text = str(caught.value)
    assert "\n" not in text
    for remedy in ("apt install dataset-fashion-mnist", "--data DIR", "network"):
        assert remedy in text


def test_openml_is_fetched_once(monkeypatch, tmp_path, arrays):
    calls = []

    class Bunch:
        data = np.concatenate([arrays[0][:210], arrays[2], arrays[2][:5]]).reshape(-1, 784)
        target = np.concatenate([arrays[1][:210], arrays[3], arrays[3][:5]]).astype(str)

    def fetch(*args, **kwargs):
        calls.append(args)
        return Bunch

    monkeypatch.setattr(module, "DEBIAN_FOLDER", tmp_path / "nowhere")
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    with pytest.raises(ValueError, match=r"download from OpenML: train_images .*openml, download"):
        load_fashion_mnist()
    assert not list(tmp_path.iterdir())
    images, labels = Bunch.data.reshape(-1, 28, 28), Bunch.target.astype(int)
    publish(monkeypatch, (images[:210], labels[:210], images[210:], labels[210:]))
    calls.clear()
    assert len(load_fashion_mnist().train_targets) == 193
    (tmp_path / "ftnn-fashion-mnist.npz").write_bytes(b"PK damaged")
    first = load_fashion_mnist()
    second = load_fashion_mnist()
    assert len(calls) == 2  # the damaged cache was fetched anew, the good one used
    assert [len(first.split(p)[1]) for p in ("train", "val", "test")] == [193, 17, 35]
    np.testing.assert_array_equal(first.train_inputs, second.train_inputs)
    wrong = tmp_path / "ftnn-fashion-mnist.npz"
    np.savez(wrong, **dict.fromkeys(module.SHA256, labels))
    third = load_fashion_mnist()
    assert len(calls) == 3  # another array than the published one in the cache
    np.testing.assert_array_equal(third.train_inputs, first.train_inputs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ftnn-fashion-mnist.npz"]


def test_a_download_that_cannot_be_kept_is_used(monkeypatch, tmp_path, arrays):
    class Bunch:
        data = np.concatenate([arrays[0], arrays[0][:40]]).reshape(-1, 784)
        target = np.concatenate([arrays[1], arrays[1][:40]]).astype(str)

    def full(*_):
        raise OSError(28, "No space left on device")

    publish(monkeypatch, (arrays[0], arrays[1], arrays[0][:40], arrays[1][:40]))
    monkeypatch.setattr(module, "DEBIAN_FOLDER", tmp_path / "nowhere")
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda *a, **k: Bunch)
    monkeypatch.setattr("os.replace", full)
    with pytest.warns(UserWarning, match="cannot be cached: .* no space left"):
        assert len(load_fashion_mnist().test_targets) == 40
    assert not list(tmp_path.iterdir())


def test_half_of_the_images_are_mirrored_left_to_right():
    images = np.random.default_rng(0).random((9, 28, 28))
    found = mirror_images(images, np.random.default_rng(3))
    for image, original in zip(found, images, strict=True):
        assert np.array_equal(image, original) != np.array_equal(image, original[:, ::-1])
    flipped = [np.array_equal(a, b[:, ::-1]) for a, b in zip(found, images, strict=True)]
    assert 0 < sum(flipped) < 9


def test_mirroring_a_quantics_state_is_mirroring_the_image():
    images = np.random.default_rng(0).random((9, 28, 28))
    encoder = AmplitudeEncoder((28, 28), "quantics")
    cores = tuple(torch.from_numpy(core) for core in encoder.encode(images))
    found = dense(mirror(cores, np.random.default_rng(3)))
    chosen = np.random.default_rng(3).random(9) < 0.5
    expected = np.where(chosen[:, None, None], images[:, :, ::-1], images)
    assert 0 < chosen.sum() < 9
    assert_close(found, dense(encoder.encode(expected)))
