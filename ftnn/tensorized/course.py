"""The course of a healing: its steps, its errors, and the checkpoint it can be resumed from."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..layers.atomic import clear_write_errors
from ..training.checkpoint import (
    JSON_NAME,
    REMEDY,
    has_checkpoint,
    load_checkpoint,
    remove_leftovers,
    save_checkpoint,
)
from ..training.data import fingerprint
from ..training.display import Display
from ..training.interrupt import Interruption, graceful_stop
from ..training.lock import locked_folder
from ..training.metrics import append_metrics, read_metrics, rewrite_metrics
from ..training.same_run import check_same
from ..training.score import Score
from .difference import squares
from .judge import Judge
from .places import output_of

SCORE = Score("difference", "diff", ".3g", higher_is_better=False)
"""How the difference of the outputs is shown and recorded."""

Loss = Callable[[Tensor, Tensor, Any], Tensor]


@dataclass(frozen=True)
class Plan:
    """What a healing does; a resumed one must do the same."""

    layers: bool
    epochs: int
    lr: float
    seed: int


@dataclass(eq=False)
class Course:
    """A healing in progress.

    Attributes
    ----------
    model : Module
        In evaluation mode between steps.
    judge : Judge
    plan : Plan
    loss : callable or None
    folder : Path or None
        Where checkpoints are; None if nothing is written.
    display : Display
    errors : dict of str to float
    epoch, batch : int
        Epochs done, and batches of the current one.
    """

    model: nn.Module
    judge: Judge
    plan: Plan
    loss: Loss | None
    folder: Path | None
    display: Display
    errors: dict[str, float] = field(default_factory=dict)
    epoch: int = 0
    batch: int = 0
    stopped: bool = False
    _sums: list[float] = field(default_factory=lambda: [0.0] * 4)
    _optimizer: torch.optim.Optimizer | None = None
    _schedule: torch.optim.lr_scheduler.LRScheduler | None = None

    # ---- the folder ------------------------------------------------------------------------------

    @contextmanager
    def begun(self, resume: bool) -> Iterator[Interruption]:
        """Lock the folder, and restore its checkpoint; signals stop the course from here on."""
        folder = self.folder
        if folder is None:
            if resume:
                raise ValueError("resume is True, but there is no run_dir to resume from; give one")
            yield Interruption()
            return
        with ExitStack() as stack:
            if not resume:
                with clear_write_errors(folder):
                    folder.mkdir(parents=True, exist_ok=True)
            if folder.is_dir():
                stack.enter_context(locked_folder(folder))
            if resume:
                self._restore(folder)
            elif has_checkpoint(folder):
                raise ValueError(
                    f"run_dir {folder} holds an earlier healing; go on with it (resume=True), or "
                    "choose another folder"
                )
            yield stack.enter_context(graceful_stop(self.request_stop))

    def request_stop(self) -> None:
        """Stop after the current step, or layer, and a checkpoint."""
        self.stopped = True

    def checkpoint(self) -> None:
        """Save everything that the rest depends on."""
        if self.folder is None:
            return
        state: dict[str, Any] = {
            "plan": asdict(self.plan),
            "batches": self._described,
            "model": {name: _exact(x) for name, x in self.model.state_dict().items()},
            "errors": self.errors,
            "at": [self.epoch, self.batch, *self._sums],
        }
        if self._optimizer is not None and self._schedule is not None:
            slots = self._optimizer.state_dict()
            slots["state"] = {
                number: {name: _exact(x) for name, x in slot.items()}
                for number, slot in slots["state"].items()
            }
            state |= {"optimizer": slots, "schedule": self._schedule.state_dict()}
        steps = self.epoch * len(self.judge.batches) + self.batch
        save_checkpoint(self.folder, state, steps)

    def _restore(self, folder: Path) -> None:
        """Restore the checkpoint, or raise ``ValueError`` and change no file."""
        state, path = load_checkpoint(folder), folder / JSON_NAME
        try:
            check_same(state["plan"], asdict(self.plan), ())
            if state["batches"] != self._described:
                raise ValueError("it was healed on other batches; resume with the same")
            own, saved = (
                {name: tuple(x.shape) for name, x in states.items()}
                for states in (self.model.state_dict(), state["model"])
            )
            if own != saved:  # a tensorized layer would take other ranks
                name = min(n for n in own.keys() | saved.keys() if own.get(n) != saved.get(n))
                raise ValueError(
                    f"it is of another model: {name!r} is {saved.get(name)} there, and "
                    f"{own.get(name)} here; resume with the same"
                )
            epoch, batch, *sums = state["at"]
            history = read_metrics(folder, epoch)
            self.model.load_state_dict(state["model"])
            self.errors = dict(state["errors"])
            if "optimizer" in state:
                optimizer, schedule = self._descent()
                optimizer.load_state_dict(state["optimizer"])
                schedule.load_state_dict(state["schedule"])
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"{path} is incomplete ({error!r}); {REMEDY}") from None
        except ValueError as error:
            raise ValueError(f"cannot resume from {path}: {error}") from None
        self.epoch, self.batch, self._sums = epoch, batch, sums
        rewrite_metrics(folder, history)
        remove_leftovers(folder)

    @cached_property
    def _described(self) -> list[int]:
        """Return numbers that change with the tensors of the batches."""
        return [fingerprint(_exact(x)) for batch in self.judge.batches for x in _tensors(batch)]

    # ---- training --------------------------------------------------------------------------------

    def train(self, told: Callable[[str], None]) -> None:
        """Train all parameters by Adam, with a rate that falls to zero along a cosine."""
        if not self.plan.epochs:
            return
        cuda = {x.device for x in self.model.parameters() if x.is_cuda}
        with torch.random.fork_rng(devices=sorted(device.index for device in cuda)):
            self._descent()
            count = len(self.judge.batches)
            self.display.start(self.plan.epochs, count, self.epoch * count + self.batch)
            while self.epoch < self.plan.epochs and self._epoch():
                told(f"epoch {self.epoch}: {self.judge.shown(self.errors[f'epoch {self.epoch}'])}")

    def _descent(
        self,
    ) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """Return the optimizer and the schedule; made once, when the cores are the last ones."""
        if self._optimizer is None or self._schedule is None:
            trained = [p for p in self.model.parameters() if p.requires_grad]
            self._optimizer = torch.optim.Adam(trained, self.plan.lr)
            steps = self.plan.epochs * len(self.judge.batches)
            self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self._optimizer, steps)
        return self._optimizer, self._schedule

    def _epoch(self) -> bool:
        """Train for an epoch, or the rest of it; return False if stopped within."""
        begun, before = time.perf_counter(), self._sums[1]
        count = len(self.judge.batches)
        order = np.random.default_rng((self.plan.seed, self.epoch)).permutation(count)
        for number in order[self.batch :]:
            if self.stopped:
                self.model.eval()
                self.checkpoint()
                return False
            rate = self._step(int(number))
            self.batch += 1
            means = self._means(time.perf_counter() - begun, self._sums[1] - before)
            self.display.step(self.epoch + 1, self.epoch * count + self.batch, means)
        self.epoch, self.batch = self.epoch + 1, 0
        with torch.no_grad():
            error = self.judge.error(self.model.eval())
        self.errors[f"epoch {self.epoch}"] = error
        record = {"epoch": self.epoch, "lr": rate, "seconds": time.perf_counter() - begun}
        record |= means | {"train_difference": error}
        self._sums = [0.0] * 4
        if self.folder is not None:
            append_metrics(self.folder, record)
        self.display.epoch(record)
        self.checkpoint()
        return True

    def _step(self, number: int) -> float:
        """Take a step on a batch; return its learning rate."""
        optimizer, schedule = self._descent()
        judge, goal = self.judge, self.judge.goals[number]
        seed = np.random.SeedSequence((self.plan.seed, self.epoch, 3, self.batch))
        torch.manual_seed(int(seed.generate_state(1)[0]))  # random draws, such as of dropout
        self.model.train()
        optimizer.zero_grad()
        output = output_of(judge.forward(self.model, judge.batches[number]))
        total, size = squares(judge.difference, output, goal)
        value = (
            total / size if self.loss is None else self.loss(output, goal, judge.batches[number])
        )
        if not torch.isfinite(value):
            raise ValueError(f"the loss is {value.item()}; choose a lower lr than {self.plan.lr}")
        rate = float(optimizer.param_groups[0]["lr"])
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        parts = (value.item() * len(goal), len(goal), total.item(), size.item())
        self._sums = [before + part for before, part in zip(self._sums, parts, strict=True)]
        return rate

    def _means(self, seconds: float, samples: float) -> dict[str, float]:
        """Return means over the epoch so far, and the speed of a part of it."""
        loss, count, total, size = self._sums
        return {
            "train_loss": loss / count,
            "train_difference": self.judge.as_error(total / size if size else 0.0),
            "samples_per_s": samples / max(seconds, 1e-9),
        }


def _tensors(batch: Any) -> Iterator[Tensor]:
    """Yield the tensors of a batch: of a mapping, a sequence, or itself."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for name in batch:
            yield from _tensors(batch[name])
    elif isinstance(batch, (tuple, list)):
        for part in batch:
            yield from _tensors(part)


def _exact(value: Any) -> Any:
    """Return a tensor in a dtype that a checkpoint holds, without loss; anything else as it is."""
    short = isinstance(value, Tensor) and value.dtype == torch.bfloat16
    return value.detach().float() if short else value
