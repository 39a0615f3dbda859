"""One optimizer step after another, and evaluation."""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..layers.layer import Layer
from .config import TrainConfig, make_optimizer, make_scheduler
from .data import Samples, batches
from .module import TorchModule
from .objective import Objective
from .world import World


class DivergenceError(RuntimeError):
    """The loss or its gradient is no longer finite."""


@dataclass(frozen=True)
class StepStats:
    """What one step measured, before its update: means over the batch."""

    loss: float
    score: float
    grad_norm: float
    lr: float

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are; if not, no update was made, and none is from here on."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


class Measured:
    """What a step measured, on its way from the device: the host need not wait for the step.

    Parameters
    ----------
    numbers : float64 tensor (3,)
        Loss, score and norm of the gradient.
    lr : float
    step : int
        From 1, over all epochs.
    samples : int
        In the batch, over all processes.
    """

    def __init__(self, numbers: torch.Tensor, lr: float, step: int, samples: int):
        self.lr, self.step, self.samples = lr, step, samples
        self._numbers = numbers.to("cpu", non_blocking=True)
        self._sent: torch.cuda.Event | None = None
        if numbers.is_cuda:
            self._sent = torch.cuda.Event()
            self._sent.record()

    def read(self) -> StepStats:
        """Wait for the step, and no further, and read its numbers."""
        if self._sent is not None:
            self._sent.synchronize()
        loss, score, norm = self._numbers.tolist()
        return StepStats(loss, score, norm, self.lr)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result of a model on samples with targets.

    Attributes
    ----------
    loss, score : float
        Means over the samples; see :class:`ftnn.training.objective.Objective`.
    scores : float64 array (n,)
        Score of every sample.
    outputs : float64 array (n, num_outputs) or None
        Logits; None where the model returns states.
    """

    loss: float
    score: float
    scores: np.ndarray
    outputs: np.ndarray | None

    @property
    def predictions(self) -> np.ndarray:
        """Class predicted for every sample, int64 array (n,)."""
        if self.outputs is None:
            raise ValueError("the model returns states, which are of no class")
        return self.outputs.argmax(axis=1)


class Updater:
    """Optimizer, schedule, clipping and running average of one module.

    Parameters
    ----------
    module : TorchModule
    config : TrainConfig
    total_steps : int
        Length of the schedule.
    world : World
        The processes that share every batch. All start from the parameters of the leader.
    objective : Objective
    """

    def __init__(
        self,
        module: TorchModule,
        config: TrainConfig,
        total_steps: int,
        world: World,
        objective: Objective,
    ):
        self.module, self.config, self.total_steps = module, config, total_steps
        self.world, self.objective = world, objective
        self.forward: torch.nn.Module = _Forward(module)
        if config.compile:
            self.forward.compile(fullgraph=True, dynamic=False)
        if world.size > 1:
            with warnings.catch_warnings():  # the name that replaces it is too new for torch 2.4
                warnings.simplefilter("ignore", FutureWarning)
                self.forward = DistributedDataParallel(self.forward, broadcast_buffers=False)
        self.optimizer = make_optimizer(config, module)
        self.params = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.scheduler = make_scheduler(config, self.optimizer, total_steps)
        self.failed = torch.zeros((), device=self.params[0].device)  # 1 from the first NaN on
        self.average: AveragedModel | None = None
        if config.ema_decay:
            average = get_ema_multi_avg_fn(config.ema_decay)
            self.average = AveragedModel(module, multi_avg_fn=average)
        self.steps = 0

    @property
    def evaluated(self) -> TorchModule:
        """The module that is evaluated and saved: the running average where there is one."""
        return self.module if self.average is None else self.average.module  # type: ignore[return-value]

    def step(
        self, cores: tuple[torch.Tensor, ...], targets: tuple[torch.Tensor, ...], total: int
    ) -> Measured:
        """Forward, backward, clip, update; no update any more once loss or gradient is not finite.

        With one process, nothing here asks the device for a number: on a GPU the step is queued,
        not done, when this returns.

        Parameters
        ----------
        cores : tuple of tensor (batch, left, phys, right)
            Share of this process in the batch.
        targets : tuple of tensor (batch, ...)
        total : int
            Samples in the batch, over all processes.
        """
        config = self.config
        self.optimizer.zero_grad(set_to_none=True)
        output = self._output(cores)
        loss = self.objective.losses(output, targets, config.label_smoothing).mean()
        share = len(targets[0]) / total
        # DistributedDataParallel takes the mean of gradients over processes, whose shares of the
        # batch may differ by a sample: this makes it the gradient of the mean over samples
        (loss if self.world.size == 1 else loss * (share * self.world.size)).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.params, config.clip_norm or math.inf)
        self._join_buffers()
        with torch.no_grad():
            score = self.objective.scores(output, targets).mean()
        summed = self.world.sum(torch.stack([loss.detach().double(), score]) * share)
        numbers = torch.cat([summed, norm.detach().double()[None]])
        bad = (~torch.isfinite(numbers[::2]).all()).to(self.failed.dtype)
        self.failed = torch.maximum(self.failed, bad)
        lr = float(self.optimizer.param_groups[0]["lr"])
        self.optimizer.found_inf = self.failed  # type: ignore[attr-defined]  # fused ones skip then
        self.optimizer.step()
        self.steps += 1
        if self.steps < self.total_steps:
            self.scheduler.step()
        if self.average is not None:
            self.average.update_parameters(self.module)
        return Measured(numbers, lr, self.steps, total)

    def _output(self, cores: tuple[torch.Tensor, ...]) -> Any:
        try:
            return self.forward(*cores)
        except RuntimeError as error:
            if not type(error).__module__.startswith("torch._dynamo"):
                raise
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"compile is True, but the network is not one graph: {reason}; train without, or "
                "replace layers whose shapes depend on the data, such as an rtol"
            ) from error

    def _join_buffers(self) -> None:
        """Take the mean of running statistics over the processes."""
        if self.world.size > 1:
            for name in sorted(self.module.replaced):
                buffer = self.module.get_buffer(name)
                buffer.copy_(self.world.sum(buffer) / self.world.size)

    def state(self) -> dict[str, Any]:
        """All that the next steps depend on, as a tree of tensors and numbers."""
        state: dict[str, Any] = {
            "model": arrays_of(self.module),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "steps": self.steps,
        }
        if self.average is not None:
            state["average"] = arrays_of(self.evaluated)
            state["num_averaged"] = int(self.average.n_averaged)
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up a state that :meth:`state` returned; raises before anything is changed.

        Raises
        ------
        ValueError, KeyError
            If the state is that of another model or optimizer.
        """
        self.check_state(state)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.steps = int(state["steps"])
        set_arrays(self.module, state["model"])
        if self.average is not None:
            set_arrays(self.evaluated, state["average"])
            self.average.n_averaged.fill_(state["num_averaged"])

    def check_state(self, state: dict[str, Any]) -> None:
        """Raise what :meth:`load_state` would raise, and change nothing."""
        check_arrays(self.module, state["model"])
        if self.average is not None:
            check_arrays(self.evaluated, state["average"])
            int(state["num_averaged"])
        groups = state["optimizer"]["param_groups"]
        own = [len(group["params"]) for group in self.optimizer.param_groups]
        if [len(group["params"]) for group in groups] != own:
            raise ValueError("its optimizer is that of another model")
        for number, slots in state["optimizer"]["state"].items():
            for name, value in slots.items():
                shape = tuple(self.params[number].shape)
                if isinstance(value, torch.Tensor) and tuple(value.shape) not in ((), shape):
                    raise ValueError(
                        f"{name} of the optimizer has shape {tuple(value.shape)}, expected {shape}"
                    )
        if state["scheduler"].keys() != self.scheduler.state_dict().keys():
            raise ValueError("its learning rate schedule is another one")


class _Forward(torch.nn.Module):
    """Cores to outputs as a forward pass, as DistributedDataParallel takes it."""

    def __init__(self, module: TorchModule):
        super().__init__()
        self.module = module

    def forward(self, *cores: torch.Tensor) -> Any:
        return self.module.apply_cores(cores)


def evaluate_samples(
    module: TorchModule,
    samples: Samples,
    batch_size: int,
    device: str,
    objective: Objective,
    world: World | None = None,
) -> Evaluation:
    """Evaluate a module, in evaluation mode, ``batch_size`` samples at a time.

    With a world of several processes all of them must call it, and each takes its share.
    """
    world = world or World()
    total = torch.zeros((), dtype=torch.float64)
    scores = torch.zeros(len(samples), dtype=torch.float64)
    outputs: torch.Tensor | None = None
    with torch.no_grad(), module.evaluating():
        for rows in batches(len(samples), batch_size * world.size):
            own = world.share(rows)
            # a process without a sample of its own looks at one, to know the shape of an output
            cores, targets = samples.take(own if len(own) else rows[:1], device)
            output = module.apply_cores(cores)
            dense = objective.dense(output)
            if outputs is None and dense is not None:
                outputs = torch.zeros((len(samples), dense.shape[1]), dtype=torch.float64)
            if len(own) == 0:
                continue
            total += objective.losses(output, targets).double().sum().item()
            scores[torch.from_numpy(own)] = objective.scores(output, targets).cpu()
            if outputs is not None and dense is not None:
                outputs[torch.from_numpy(own)] = dense.double().cpu()
    total, scores = world.sum(total), world.sum(scores)
    return Evaluation(
        total.item() / len(samples),
        scores.mean().item(),
        scores.numpy(),
        None if outputs is None else world.sum(outputs).numpy(),
    )


def arrays_of(module: TorchModule) -> dict[str, torch.Tensor]:
    """Parameters and buffers of a module by dotted path, without gradients."""
    model: Layer = module.model
    return {name: array.detach() for name, array in model.named_arrays().items()}


def check_arrays(module: TorchModule, arrays: dict[str, torch.Tensor]) -> None:
    """Raise ``ValueError`` unless names, shapes and dtypes are those of the module."""
    own = arrays_of(module)
    for name in sorted(own.keys() ^ arrays.keys()):
        it, model = ("lacks", "has") if name in own else ("has", "lacks")
        raise ValueError(f"it {it} an array {name!r} that this model {model}")
    for name, array in own.items():
        new = arrays[name]
        if tuple(new.shape) != tuple(array.shape) or new.dtype != array.dtype:
            raise ValueError(
                f"its array {name!r} is {tuple(new.shape)} {new.dtype}, but that of this model "
                f"{tuple(array.shape)} {array.dtype}"
            )


def set_arrays(module: TorchModule, arrays: dict[str, torch.Tensor]) -> None:
    """Copy arrays by dotted path into the tensors of a module, in place."""
    with torch.no_grad():
        for name, array in arrays_of(module).items():
            array.copy_(arrays[name])
