"""Fashion-MNIST, from local files if available."""

import gzip
import hashlib
import math
import os
import struct
import warnings
import zipfile
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ...layers.atomic import replacing
from ..splits import Data, hold_out
from .options import FashionMNISTData

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's and Ubuntu's package ``dataset-fashion-mnist`` puts the files."""

SHA256 = {
    "train_images": "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
    "train_labels": "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
    "test_images": "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
    "test_labels": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
}
"""Digests of the four arrays as unsigned bytes, the same for files, gzipped or not, and OpenML."""

_IDX_NAMES = {
    "train_images": "train-images{}idx3-ubyte",
    "train_labels": "train-labels{}idx1-ubyte",
    "test_images": "t10k-images{}idx3-ubyte",
    "test_labels": "t10k-labels{}idx1-ubyte",
}


def load(options: FashionMNISTData) -> Data:
    """Load the three splits, from ``options.data`` or one of the usual locations."""
    return load_fashion_mnist(options.data, options.train.seed).limited(options.limit)


def load_fashion_mnist(data_dir: str | os.PathLike[str] | None = None, seed: int = 0) -> Data:
    """Load Fashion-MNIST: 70 000 images of 28 x 28 pixels (Xiao et al., arXiv:1708.07747).

    Parameters
    ----------
    data_dir : path, optional
        Folder with the four idx files, gzipped or not. By default the folder of Debian's
        package ``dataset-fashion-mnist``, else ``sklearn.datasets.fetch_openml``, whose
        download is cached in scikit-learn's data folder. A folder may hold another data set in
        the same format, such as MNIST: its classes are called 0 to 9, and a warning says so.
    seed : int
        Seed of the stratified split of one twelfth of the training images for validation.

    Returns
    -------
    Data
        55 000 training, 5 000 validation and 10 000 test images.

    Raises
    ------
    FileNotFoundError
        If the data cannot be found; the message states the remedy.
    ValueError
        If a file is truncated or invalid, or if the SHA-256 of some of the four arrays differs
        from that of the published ones; the message names them.
    """
    class_names: tuple[str, ...] = FASHION_CLASSES
    if data_dir is not None:
        arrays = _read_folder(Path(data_dir))
        if _is_another(arrays, Path(data_dir)):
            class_names = tuple(map(str, range(10)))
    elif _find(DEBIAN_FOLDER, "train_images"):
        arrays = _read_folder(DEBIAN_FOLDER)
        _check_published(
            arrays, str(DEBIAN_FOLDER), "apt install --reinstall dataset-fashion-mnist"
        )
    else:
        arrays = _read_openml()
    images, labels = arrays["train_images"], arrays["train_labels"]
    train, train_labels, val, val_labels = hold_out(images, labels, len(labels) // 12, seed)
    return Data(
        _scaled(train),
        train_labels,
        _scaled(val),
        val_labels,
        _scaled(arrays["test_images"]),
        arrays["test_labels"],
        class_names,
    )


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an idx file of unsigned bytes, gzipped or not.

    The format: two zero bytes, a type code (8: unsigned byte), the number of dimensions, every
    dimension as a big-endian 32-bit integer, then the entries in row-major order.

    Parameters
    ----------
    path : path
        Gzip is recognized by its magic number, not by the name.

    Returns
    -------
    array of uint8

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is truncated, too long, or not an idx file of unsigned bytes.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path}: damaged gzip file ({error}); download it again") from None
    if len(raw) < 4 or raw[:3] != b"\0\0\x08" or raw[3] == 0:
        raise ValueError(f"{path}: not an idx file of unsigned bytes (first bytes {raw[:4]!r})")
    ndim = raw[3]
    start = 4 + 4 * ndim
    if len(raw) < start:
        raise ValueError(f"{path}: truncated in its header; download it again")
    shape = struct.unpack(f">{ndim}I", raw[4:start])
    size = math.prod(shape)
    if len(raw) - start != size:
        raise ValueError(
            f"{path}: its header announces {size} entries {shape}, but it holds "
            f"{len(raw) - start}; download it again"
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def _read_folder(folder: Path) -> dict[str, np.ndarray]:
    if not folder.is_dir():
        raise FileNotFoundError(f"--data {folder}: there is no such folder")
    arrays = {}
    for key, pattern in _IDX_NAMES.items():
        path = _find(folder, key)
        if path is None:
            name = pattern.format("-")
            raise FileNotFoundError(f"--data {folder}: holds no {name} or {name}.gz")
        array = read_idx(path)
        if key.endswith("images") and array.shape[1:] != (28, 28):
            raise ValueError(f"{path}: has shape {array.shape}, expected (n, 28, 28)")
        if key.endswith("labels") and array.ndim != 1:
            raise ValueError(f"{path}: has shape {array.shape}, expected (n,)")
        if len(array) == 0:
            raise ValueError(f"{path}: is empty")
        if key.endswith("labels") and array.max() > 9:
            raise ValueError(f"{path}: has label {array.max()}, expected 0 to 9")
        arrays[key] = array.astype(np.int64) if key.endswith("labels") else array
    for part in ("train", "test"):
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
        if len(images) != len(labels):
            raise ValueError(
                f"--data {folder}: {len(images)} {part} images, but {len(labels)} labels"
            )
    return arrays


def _find(folder: Path, key: str) -> Path | None:
    """Return the file of one of the four arrays; both spellings, gzipped or not."""
    for separator in "-.":
        for suffix in ("", ".gz"):
            path = folder / (_IDX_NAMES[key].format(separator) + suffix)
            if path.is_file():
                return path
    return None


def _read_openml() -> dict[str, np.ndarray]:
    """Download from OpenML and cache as one .npz file: parsing takes about a minute."""
    from sklearn.datasets import fetch_openml, get_data_home

    home = Path(get_data_home())
    cache = home / "ftnn-fashion-mnist.npz"
    try:
        with np.load(cache) as stored:
            arrays = {key: stored[key] for key in _IDX_NAMES}
        if not _differing(arrays):
            return arrays
    except (OSError, KeyError, ValueError, EOFError, zlib.error, zipfile.BadZipFile):
        pass  # not there yet, or damaged: fetch
    parser = "pandas" if find_spec("pandas") else "liac-arff"
    try:
        bunch = fetch_openml("Fashion-MNIST", version=1, as_frame=False, parser=parser)
    except Exception as error:  # of urllib, http, ssl, sockets or OpenML: the remedy is the same
        raise FileNotFoundError(
            "Fashion-MNIST is not on this machine and OpenML cannot be reached "
            f"({type(error).__name__}); `apt install dataset-fashion-mnist`, or give a folder "
            "with its idx files as --data DIR, or connect to the network"
        ) from error
    images = bunch.data.reshape(-1, 28, 28).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    n = len(labels) * 6 // 7  # training images first, as in the original
    arrays = {
        "train_images": images[:n],
        "train_labels": labels[:n],
        "test_images": images[n:],
        "test_labels": labels[n:],
    }
    _check_published(
        arrays, "the download from OpenML", f"remove {home / 'openml'}, download again"
    )
    try:
        with replacing(cache) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)
    except OSError as error:
        warnings.warn(f"Fashion-MNIST cannot be cached: {error}", stacklevel=3)
    return arrays


def _differing(arrays: dict[str, np.ndarray]) -> list[str]:
    """Return the names of the arrays that are not the published ones."""
    return [
        key
        for key, array in arrays.items()
        if hashlib.sha256(array.astype(np.uint8).tobytes()).hexdigest() != SHA256[key]
    ]


def _check_published(arrays: dict[str, np.ndarray], source: str, remedy: str) -> None:
    """Raise ``ValueError`` unless all arrays are the published ones."""
    wrong = _differing(arrays)
    if wrong:
        raise ValueError(
            f"{source}: {' and '.join(wrong)} of Fashion-MNIST differ from the published ones "
            f"(SHA-256); they are damaged: {remedy}"
        )


def _is_another(arrays: dict[str, np.ndarray], folder: Path) -> bool:
    """Return whether a folder holds another data set, with a warning.

    Where some arrays are the published ones and others not, they are damaged or mixed up.
    """
    wrong = _differing(arrays)
    if len(wrong) < len(arrays):
        _check_published(arrays, f"--data {folder}", "fetch them again")
        return False
    warnings.warn(
        f"--data {folder}: is not Fashion-MNIST (SHA-256 of its arrays), but another data set; "
        "its classes are called 0 to 9",
        stacklevel=3,
    )
    return True


def _scaled(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32) / np.float32(255.0)
