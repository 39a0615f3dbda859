"""Images of a folder in three splits; the classes are its subfolders."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..folder import Run, read_summary
from ..splits import Data, NewSamples, hold_out
from .options import ImagesOptions

SUFFIXES = (".png", ".jpg", ".jpeg")
LEAST_OF_CLASS = 5
"""Smallest number of images per class that leaves some in each split."""


def load(options: ImagesOptions) -> Data:
    """Load a folder of images and hold out some for validation and for the test, by the seed.

    A tenth of the images outside the test set is used for validation.
    """
    if options.data is None:
        raise FileNotFoundError(
            "--data is missing; give a folder with one of images for every class"
        )
    folder = Path(options.data)
    files = _classes(folder)
    if len(files) < 2:
        raise ValueError(
            f"--data {folder}: has {len(files)} folders of images, expected two or more: one for "
            "every class"
        )
    fewest = min(files, key=lambda name: len(files[name]))
    if len(files[fewest]) < LEAST_OF_CLASS:
        raise ValueError(
            f"--data {folder}: class {fewest!r} has {len(files[fewest])} images, expected at least "
            f"{LEAST_OF_CLASS}"
        )
    images = read_images([path for paths in files.values() for path in paths], options)
    labels = np.repeat(np.arange(len(files)), [len(paths) for paths in files.values()])
    size = max(round(options.held_out * len(labels)), len(files))
    stay, y, test, y_test = hold_out(images, labels, size, 0)
    size = max(round(0.1 * len(stay)), len(files))
    train, y_train, val, y_val = hold_out(stay, y, size, options.train.seed)
    return Data(train, y_train, val, y_val, test, y_test, tuple(files)).limited(options.limit)


def read(run: Run, path: str, with_targets: bool) -> NewSamples:
    """Read new images for a trained model, as large as those it was trained on.

    With targets they lie in a folder for every class, without all in one folder, or it is one.
    """
    class_names = tuple(read_summary(run.path).get("class_names", ()))
    if not class_names:
        raise ValueError(f"{run.path} is not finished; go on with `ftnn train --resume`")
    folder = Path(path)
    single = not with_targets and folder.is_file()
    files = _classes(folder) if with_targets else {"": [folder] if single else _images(folder)}
    unknown = next((name for name in files if with_targets and name not in class_names), None)
    if unknown is not None:
        raise ValueError(
            f"--data {folder}: there is no class {unknown!r}; the model knows "
            f"{', '.join(class_names)}"
        )
    paths = [path for own in files.values() for path in own]
    if not paths:
        raise ValueError(f"--data {folder}: has no PNG or JPEG files")
    shape = run.fitted_encoder().image_shape  # type: ignore[attr-defined]
    images = read_images(paths, run.options, shape)
    labels = None
    if with_targets:
        labels = np.array([class_names.index(name) for name, own in files.items() for _ in own])
    return NewSamples(images, labels, class_names, [str(path) for path in paths])


def read_images(
    paths: Sequence[Path], options: ImagesOptions, shape: tuple[int, ...] | None = None
) -> np.ndarray:
    """Read images of one size.

    Parameters
    ----------
    paths : sequence of Path
    options : ImagesOptions
        ``size`` and ``colour`` are read.
    shape : tuple of int, optional
        Expected shape of every image.

    Returns
    -------
    float32 array (n, height, width)
        In [0, 1]. Colours stand side by side, pixel by pixel: width is three times that of the
        image.
    """
    images: list[np.ndarray] = []
    for path in paths:
        image = _read(path, options)
        expected = images[0].shape if shape is None and images else shape
        if expected is not None and image.shape != tuple(expected):
            height, width = image.shape
            rest = f"{paths[0]}; give --size N to resize all"
            if shape is not None:
                rest = "the images of the training; resize it, or train again with --size N"
            raise ValueError(
                f"{path}: has {height} x {width // _channels(options)} pixels, another size than "
                f"{rest}"
            )
        images.append(image)
    return np.stack(images)


def _read(path: Path, options: ImagesOptions) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=("PNG", "JPEG")) as file:
            picture = file.convert("RGB" if options.colour else "L")
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable PNG or JPEG file ({error})") from None
    if options.size is not None:
        picture = picture.resize((options.size, options.size), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture, dtype=np.float32) / np.float32(255.0)
    return pixels.reshape(len(pixels), -1)  # (height, width * channels)


def _channels(options: ImagesOptions) -> int:
    return 3 if options.colour else 1


def _classes(folder: Path) -> dict[str, list[Path]]:
    """Return the images of every subfolder, by its name, in alphabetical order.

    Hidden folders are left out; any other is a class, and has images.
    """
    _check_folder(folder)
    folders = [own for own in sorted(folder.iterdir()) if own.is_dir() and own.name[0] != "."]
    files = {own.name: _images(own) for own in folders}
    empty = [name for name, images in files.items() if not images]
    if empty:
        raise ValueError(
            f"--data {folder}: every folder in it is a class, but {', '.join(map(repr, empty))} "
            f"{'have' if len(empty) > 1 else 'has'} no PNG or JPEG files; add images, or move "
            "what is no class elsewhere"
        )
    return files


def _images(folder: Path) -> list[Path]:
    _check_folder(folder)
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())


def _check_folder(folder: Path) -> None:
    if folder.is_file():
        raise NotADirectoryError(f"--data {folder}: is a file, expected a folder")
    if not folder.is_dir():
        raise FileNotFoundError(f"--data {folder}: there is no such folder")
