"""Data of the study of orders: functions and images as ten bits, and moments of tables."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

import ftnn
from ftnn.encoding import TableEncoder

BITS = 5
SIDE, SITES, SAMPLES = 2**BITS, 2 * BITS, 64
DIMS = (2,) * SITES

Draw = Callable[[np.random.Generator, int], np.ndarray]


@lru_cache
def fashion() -> np.ndarray:
    """Training images of Fashion-MNIST, 32 x 32 with a margin of zeros."""
    from ftnn.experiments import get_experiment

    chosen = get_experiment("fashion-mnist")
    images = chosen.load(chosen.tuned_options()).train_inputs
    return np.pad(images, ((0, 0), (2, 2), (2, 2))).astype(np.float64)


def clothes(rng: np.random.Generator, count: int) -> np.ndarray:
    images = fashion()
    return images[rng.choice(len(images), count, replace=False)]


@lru_cache
def photographs() -> tuple[np.ndarray, ...]:
    from sklearn.datasets import load_sample_images

    return tuple(image.mean(2) / 255.0 for image in load_sample_images().images)


def cutouts(rng: np.random.Generator, count: int) -> np.ndarray:
    """First those of the left halves of two photographs, then those of the right halves."""
    found = []
    for n in range(count):
        image = photographs()[n % 2]
        image = np.array_split(image, 2, axis=1)[2 * n // count]
        row, col = (int(rng.integers(0, side - SIDE)) for side in image.shape)
        found.append(image[row : row + SIDE, col : col + SIDE])
    return np.array(found)


def bumps(rng: np.random.Generator, count: int, angle: float | None = None) -> np.ndarray:
    """Sums of three Gaussians, six times as long as wide, in drawn directions or in one."""
    x, y = np.meshgrid(*[np.arange(SIDE) / SIDE] * 2, indexing="ij")
    found = np.zeros((count, SIDE, SIDE))
    for image in found:
        for _ in range(3):
            (a, b), turn = rng.random(2), rng.uniform(0, np.pi) if angle is None else angle
            u = (x - a) * np.cos(turn) + (y - b) * np.sin(turn)
            v = (y - b) * np.cos(turn) - (x - a) * np.sin(turn)
            image += np.exp(-8.0 * (u**2 + 36.0 * v**2))
    return found


def ridges(rng: np.random.Generator, count: int) -> np.ndarray:
    """Gaussians along the diagonal."""
    return bumps(rng, count, np.pi / 4)


def waves(rng: np.random.Generator, count: int) -> np.ndarray:
    """Sums of eight plane waves, with normal wave numbers of deviation 6."""
    x, y = np.meshgrid(*[np.arange(SIDE) / SIDE] * 2, indexing="ij")
    found = np.zeros((count, SIDE, SIDE))
    for image in found:
        for _ in range(8):
            (a, b), phase = rng.normal(0, 6, 2), rng.uniform(0, 2 * np.pi)
            image += rng.normal() * np.cos(2 * np.pi * (a * x + b * y) + phase)
    return found


FAMILIES: dict[str, Draw] = {
    "Gaussians, any direction": bumps,
    "Gaussians, diagonal": ridges,
    "plane waves": waves,
    "Fashion-MNIST": clothes,
    "photographs": cutouts,
}


def drawn(family: str, seed: int) -> tuple[ftnn.MPS, ftnn.MPS]:
    """Training and held-out samples as states of ten bits: five of the row, five of the column."""
    rng = np.random.default_rng(seed)
    # of Fashion-MNIST without replacement: no image is in both
    train, held = np.split(FAMILIES[family](rng, 2 * SAMPLES).reshape(2 * SAMPLES, -1), 2)
    return ftnn.MPS.from_dense(train, DIMS), ftnn.MPS.from_dense(held, DIMS)


@lru_cache
def table(name: str) -> np.ndarray:
    from sklearn import datasets

    rows = getattr(datasets, f"load_{name}")().data
    return rows[:, :10]


TABLES = {"diabetes": "diabetes, 10 columns", "breast_cancer": "breast cancer, the 10 means"}


def mean_states(name: str, seed: int) -> tuple[np.ndarray, ftnn.MPS, ftnn.MPS]:
    """Training rows, and the mean states of training and of held-out rows."""
    rows = table(name)
    train, held = np.array_split(np.random.default_rng(seed).permutation(rows), 2)
    encoder = TableEncoder(normalize="quantile").fit(train)
    means = []
    for part in (train, held):
        dense = ftnn.MPS(encoder.encode(part)).to_dense().mean(0, keepdims=True)
        means.append(ftnn.MPS.from_dense(dense, encoder.phys_dims))
    return train, *means
