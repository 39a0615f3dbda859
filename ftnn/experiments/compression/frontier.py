"""The frontier: the trained network in fewer and fewer parameters, untouched and healed."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...tensorized import Tensorizer, heal, load, save
from ...training.callbacks import Callback
from ...training.checkpoint import has_checkpoint
from ...training.data import Samples
from ...training.files import read_json, write_json
from ..splits import Data
from .model import DenseNetwork
from .options import CompressionOptions

if TYPE_CHECKING:
    from ...training import Fit, FitResult

ROW, MODEL, LAYERS = "row.json", "model.safetensors", "layers.safetensors"
"""Files of a ratio: its accuracies, the network, and the network before it was trained."""

_REMEDY = "remove its folder, and resume the run"
_AT_ONCE = 500
"""Images of a batch that is not trained on."""


def place_of(folder: Path, ratio: float) -> Path:
    """Return the folder of a ratio in that of the run.

    Examples
    --------
    >>> place_of(Path("runs/mine"), 16.0).name
    'ratio-16'
    """
    return folder / f"ratio-{ratio:g}"


def row_of(folder: Path, ratio: float) -> dict[str, Any]:
    """Read what is known of a ratio; empty if nothing is."""
    path = place_of(folder, ratio) / ROW
    return read_json(path, _REMEDY) if path.is_file() else {}


class Frontier(Callback):
    """At the end of the training, compress the network by every ratio, and heal it.

    What is done is kept in a folder for every ratio; a run that is interrupted goes on from there.
    All accuracies are those of validation images.
    """

    def __init__(self, options: CompressionOptions):
        self.options = options
        self._tensorizer: Tensorizer | None = None  # its fits serve all ratios

    def fit_end(self, fit: "Fit", result: "FitResult") -> None:
        """Compress, unless the training was stopped."""
        if result.outcome == "stopped" or fit.folder is None or not fit.world.leads:
            return
        assert isinstance(fit.model, DenseNetwork)
        dense = fit.model.module().to(fit.device)
        for ratio in self.options.numbers:
            self._row(fit, dense, ratio)

    def _row(self, fit: "Fit", dense: nn.Module, ratio: float) -> None:
        """Compress by one ratio, or go on with it."""
        assert fit.folder is not None
        assert fit.val is not None
        row, place = row_of(fit.folder, ratio), place_of(fit.folder, ratio)
        if "healed" in row or "error" in row:
            return
        name = f"{ratio:g} times fewer parameters"

        def tell(text: str) -> None:
            if fit.stop_requested:
                raise KeyboardInterrupt
            fit.message(f"{name}: {text}")

        place.mkdir(exist_ok=True)
        if "by_layer" not in row:
            row = self._by_layer(fit, dense, ratio, tell)
            write_json(place / ROW, row)
        if "error" in row:
            return
        model = load(dense, place / LAYERS)
        if self.options.heal_epochs:
            healed = heal(
                model,
                dense,
                batches_of(fit.train, fit.config.batch_size, next(dense.parameters())),
                layers=False,
                epochs=self.options.heal_epochs,
                lr=self.options.heal_lr,
                progress=tell,
                seed=fit.config.seed,
                run_dir=place,
                resume=has_checkpoint(place),
            )
            if healed.outcome == "stopped":
                raise KeyboardInterrupt(healed.signal or signal.SIGINT)
            model = healed.model
        save(model, place / MODEL)
        row["healed"] = accuracy(model, fit.val)
        write_json(place / ROW, row)
        tell(f"healed as a whole {row['healed']:.2%}")

    def _by_layer(
        self, fit: "Fit", dense: nn.Module, ratio: float, tell: Callable[[str], None]
    ) -> dict[str, Any]:
        """Compress, and heal layer by layer; save the network, and return its row so far."""
        assert fit.folder is not None
        assert fit.val is not None
        few = self.options.calibration
        batches = batches_of(fit.train, _AT_ONCE, next(dense.parameters()), few)
        row: dict[str, Any] = {"ratio": ratio}
        if self._tensorizer is None:
            self._tensorizer = Tensorizer(dense, batches, formats=self.options.names, progress=tell)
        try:
            found = self._tensorizer.tensorize(ratio=ratio)
        except ValueError as error:  # a budget that cannot be met
            tell(str(error))
            return row | {"error": str(error)}
        row |= {"params": found.params, "untouched": accuracy(found.model, fit.val)}
        tell(f"{found.params:,}, validation accuracy {row['untouched']:.2%}")
        model = heal(found, dense, batches, progress=tell).model
        save(model, place_of(fit.folder, ratio) / LAYERS)
        row["by_layer"] = accuracy(model, fit.val)
        tell(f"healed by layers {row['by_layer']:.2%}")
        return row


def callbacks(options: CompressionOptions, data: Data) -> tuple[Callback, ...]:
    """Return the callbacks of the experiment."""
    return (Frontier(options),)


def accuracy(model: nn.Module, samples: Samples) -> float:
    """Return the fraction of right answers of a model, in evaluation mode, on its device."""
    first = next(model.eval().parameters())
    with torch.no_grad():
        right = sum(
            int((model(x).argmax(1) == y).sum()) for x, y in batches_of(samples, _AT_ONCE, first)
        )
    return right / len(samples)


def batches_of(
    samples: Samples, size: int, like: Tensor, count: int | None = None
) -> list[tuple[Tensor, Tensor]]:
    """Return pairs of images (batch, 1, 28, 28) and labels, as a tensor is; at most ``count``."""
    images = samples.cores[0][:count].reshape(-1, 1, 28, 28).to(like)
    labels = samples.targets[0][:count].to(like.device)
    return list(zip(images.split(size), labels.split(size), strict=True))
