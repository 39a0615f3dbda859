"""Run: what one fit works with, and how it is checkpointed and restored."""

import time
import zlib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from ..arrays.backend import to_numpy
from ..layers.files import read_tensors
from .checkpoint import JSON_NAME, REMEDY, load_checkpoint, save_checkpoint
from .config import TrainConfig
from .data import Augment, AugmentStates, Samples
from .metrics import read_metrics, rewrite_metrics
from .progress import Display
from .state import State, Sums
from .update import Measured, Updater, check_arrays
from .world import World

MODEL_NAME = "model.safetensors"
FREE_TO_CHANGE = ("device", "threads", "patience", "checkpoint_seconds", "compile", "recompute")
"""Fields of the configuration that may differ when a run is resumed."""


@dataclass(eq=False)
class Run:
    """The parts of a fit.

    Attributes
    ----------
    folder : Path
    config : TrainConfig
    inputs : array, MPS or tuple of array
        Training inputs as given.
    train, val : Samples
        With augmentation ``train`` holds one encoded sample and all targets.
    augment, augment_states : callable, optional
    updater : Updater
    display : Display
    state : State
    history : list of dict
        Metrics, one record an epoch.
    measured : Measured, optional
        Of the last step, until it is counted.
    """

    folder: Path
    config: TrainConfig
    inputs: Any
    train: Samples
    val: Samples | None
    augment: Augment | None
    augment_states: AugmentStates | None
    updater: Updater
    display: Display
    state: State = field(default_factory=State)
    history: list[dict[str, Any]] = field(default_factory=list)
    measured: Measured | None = None
    saved_at: float = 0.0
    ticked_at: float = 0.0

    def tick(self) -> None:
        """Count the time since the last tick as time of the epoch in progress."""
        now = time.perf_counter()
        self.state.sums.seconds += now - self.ticked_at
        self.ticked_at = now

    def checkpoint(self) -> None:
        """Save all that the rest of the fit depends on."""
        self.saved_at = time.perf_counter()
        if not self.world.leads:
            return
        content = {
            "training": asdict(self.state),
            "metrics_lines": len(self.history),
            "config": asdict(self.config),
            "data": self._data(),
            "update": self.updater.state(),
        }
        save_checkpoint(self.folder, content, self.updater.steps)
        self.saved_at = time.perf_counter()

    @property
    def world(self) -> World:
        """The processes that train together; the leader reads and writes the folder."""
        return self.updater.world

    def restore(self) -> None:
        """Go back to the checkpoint in the folder; lines of metrics after it are dropped.

        Raises
        ------
        ValueError
            If it is missing, damaged, or belongs to another model, configuration or data set;
            nothing on disk is changed then.
        """
        path = self.folder / JSON_NAME
        content = self.world.from_leader(lambda: load_checkpoint(self.folder))
        try:
            self._check_same(content)
            training = dict(content["training"])
            state = State(**training | {"sums": Sums(**training["sums"])})
            lines = content["metrics_lines"]
            history = self.world.from_leader(lambda: read_metrics(self.folder, lines))
            self.updater.check_state(content["update"])
            if state.best_epoch:
                self.check_kept(self.kept())
            self.updater.load_state(content["update"])
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"{path} is incomplete ({error!r}); {REMEDY}") from None
        except FileNotFoundError as error:
            raise ValueError(f"cannot resume from {path}: {error}; {REMEDY}") from None
        except ValueError as error:
            raise ValueError(f"cannot resume from {path}: {error}") from None
        if self.world.leads:
            rewrite_metrics(self.folder, history)
        self.state, self.history = state, history

    def kept(self) -> dict[str, torch.Tensor]:
        """Arrays of the model saved in the folder, by dotted path."""
        tensors, _ = self.world.from_leader(lambda: read_tensors(self.folder / MODEL_NAME))
        return {
            name.removeprefix("model."): torch.from_numpy(array)
            for name, array in tensors.items()
            if name.startswith("model.")
        }

    def check_kept(self, arrays: dict[str, torch.Tensor]) -> None:
        """Raise ``ValueError`` unless ``arrays`` are those of this model."""
        try:
            check_arrays(self.updater.module, arrays)
        except ValueError as error:
            raise ValueError(
                f"{self.folder / MODEL_NAME} is that of another model: {error}; {REMEDY}"
            ) from None

    def _check_same(self, content: dict[str, Any]) -> None:
        own, other = asdict(self.config), content["config"]
        differing = [
            f"{option.name} {other.get(option.name)!r} (now {own[option.name]!r})"
            for option in fields(TrainConfig)
            if option.name not in FREE_TO_CHANGE and other.get(option.name) != own[option.name]
        ]
        if differing:
            raise ValueError(
                f"it was trained with {', '.join(differing)}; resume with the same values, or "
                "train in a new folder"
            )
        if content["data"] != self._data():
            raise ValueError(
                "it was trained on other samples, or with another augmentation; resume with the "
                "same, or train in a new folder"
            )

    def _data(self) -> dict[str, Any]:
        return {
            "train": len(self.train),
            "val": 0 if self.val is None else len(self.val),
            "targets": [_fingerprint(x) for x in self.train.targets],
            "augment": self.augment is not None,
            "augment_states": self.augment_states is not None,
        }


def _fingerprint(x: torch.Tensor) -> int:
    """Differ when entries of ``x`` change or are reordered; the same on every device."""
    return zlib.crc32(to_numpy(x).tobytes())
