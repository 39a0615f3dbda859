"""Updates: optimizer steps, also across a change of the model."""

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..layers.surgery import Block
from .config import TrainConfig
from .module import TorchModule
from .objective import Objective
from .optimizer import make_optimizer, make_scheduler, real_views
from .step_stats import PendingStats
from .transfer import check_blocks, transfer_arrays, transfer_optimizer
from .weights import arrays_of, check_arrays, parameters_of, set_arrays
from .world import World


class Updater:
    """Optimizer, schedule, clipping and running average of one module.

    Parameters
    ----------
    module : TorchModule
    config : TrainConfig
    total_steps : int
        Length of the schedule.
    world : World
        Processes that share every batch. All start from the parameters of the leader.
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
        self.config, self.total_steps = config, total_steps
        self.world, self.objective = world, objective
        self.steps = 0
        self._warm = (0, 0)  # steps done when the rate was last lowered, and steps of its rise
        self._take(module)

    def _take(self, module: TorchModule) -> None:
        """Create everything that depends on the parameters of a module."""
        config = self.config
        views = real_views(module)
        optimizer = make_optimizer(config, module, views)  # the first to refuse a module
        named = parameters_of(module)
        self.complex_pairs = [(named[n], v) for n, v in views.items() if v is not named[n]]
        self.module, self.optimizer, self.views = module, optimizer, views
        self.forward: torch.nn.Module = _Forward(module)
        if config.compile:
            self.forward.compile(fullgraph=True, dynamic=False)
        if self.world.size > 1:
            with warnings.catch_warnings():  # the name that replaces it is too new for torch 2.4
                warnings.simplefilter("ignore", FutureWarning)
                self.forward = DistributedDataParallel(self.forward, broadcast_buffers=False)
        self.params = [p for group in optimizer.param_groups for p in group["params"]]
        self.scheduler = make_scheduler(config, optimizer, self.total_steps)
        self.failed = torch.zeros((), device=self.params[0].device)  # 1 from the first NaN on
        self.average: AveragedModel | None = None
        if config.ema_decay:
            average = get_ema_multi_avg_fn(config.ema_decay)
            self.average = AveragedModel(module, multi_avg_fn=average)

    @property
    def evaluated(self) -> TorchModule:
        """The module that is evaluated and saved: the running average, if there is one."""
        return self.module if self.average is None else self.average.module  # type: ignore[return-value]

    def step(
        self, cores: tuple[torch.Tensor, ...], targets: tuple[torch.Tensor, ...], total: int
    ) -> PendingStats:
        """Run forward, backward, clipping and update; skip updates once a loss is not finite.

        With one process, nothing here synchronizes: on a GPU the step is queued, not finished, when
        this returns.

        Parameters
        ----------
        cores : tuple of tensor (batch, left, phys, right)
            This process's share of the batch.
        targets : tuple of tensor (batch, ...)
        total : int
            Size of the batch, over all processes.
        """
        self.optimizer.zero_grad(set_to_none=True)
        for parameter, _ in self.complex_pairs:
            parameter.grad = None
        share = len(targets[0]) / total
        with self._sharing(total):
            output = self._output(cores)
            losses, scores = self.objective.measure(output, targets, self.config.label_smoothing)
            loss = losses.mean()
            # DistributedDataParallel takes the mean of gradients over processes, whose shares of
            # the batch may differ by a sample: this makes it that of the mean over samples
            (loss if self.world.size == 1 else loss * (share * self.world.size)).backward()
        for parameter, view in self.complex_pairs:
            if parameter.grad is not None:
                view.grad = torch.view_as_real(parameter.grad.resolve_conj())
        norm = torch.nn.utils.clip_grad_norm_(self.params, self.config.clip_norm or math.inf)
        self._join_buffers()
        means = torch.stack([loss.detach().double(), scores.detach().double().mean()])
        summed = self.world.sum(means * share)
        numbers = torch.cat([summed, norm.detach().double()[None]])
        bad = (~torch.isfinite(numbers[::2]).all()).to(self.failed.dtype)
        self.failed = torch.maximum(self.failed, bad)
        self.optimizer.found_inf = self.failed  # type: ignore[attr-defined]  # fused ones skip then
        with self._warmed() as lr:
            self.optimizer.step()
        self.steps += 1
        if self.steps < self.total_steps:
            self.scheduler.step()
        if self.average is not None:
            self.average.update_parameters(self.module)
        return PendingStats(numbers, lr, self.steps, total)

    def rewarm(self, steps: int) -> None:
        """Let the learning rate rise again to that of the schedule, over so many steps."""
        self._warm = (self.steps, steps)

    @contextmanager
    def _warmed(self) -> Iterator[float]:
        """Lower the rates of the schedule for a step while they rise again; the first of them."""
        since, steps = self._warm
        factor = min(1.0, (self.steps - since + 1) / (steps + 1))
        groups = self.optimizer.param_groups
        rates = [group["lr"] for group in groups]
        if factor < 1.0:
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate * factor
        try:
            yield float(groups[0]["lr"])
        finally:
            if factor < 1.0:  # the schedule goes on from its own
                for group, rate in zip(groups, rates, strict=True):
                    group["lr"] = rate

    @contextmanager
    def _sharing(self, total: int) -> Iterator[None]:
        """Inform layers with random draws which rows of the whole batch these are."""
        if self.world.size == 1:
            yield
            return
        start = int(self.world.share(np.arange(total))[0])
        layers = [layer for _, layer in self.module.model.walk()]
        for layer in layers:
            layer.batch_share = (start, total)
        try:
            yield
        finally:
            for layer in layers:
                layer.batch_share = None

    def _output(self, cores: tuple[torch.Tensor, ...]) -> Any:
        try:
            return self.forward(*cores)
        except RuntimeError as error:
            if not type(error).__module__.startswith("torch._dynamo"):
                raise
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"compile is True, but the network is not one graph: {reason}; disable it, or "
                "replace layers whose shapes depend on the data, such as an rtol"
            ) from error

    def _join_buffers(self) -> None:
        """Average running statistics over the processes."""
        if self.world.size > 1:
            for name in sorted(self.module.replaced):
                buffer = self.module.get_buffer(name)
                buffer.copy_(self.world.sum(buffer) / self.world.size)

    def replace(self, module: TorchModule, blocks: Mapping[str, Block]) -> None:
        """Continue with another module, such as a grown one, at the same point of the schedule.

        The state of the optimizer, such as the moments of Adam, is carried over entry by entry:
        that of ``old[source]`` becomes that of ``new[target]``, and is zero around it. Entries
        outside all blocks start from zero. The running average of the weights keeps the old
        averages in the blocks, and uses the new weights elsewhere.

        Parameters
        ----------
        module : TorchModule
            On the device and in the dtype of the one it replaces.
        blocks : mapping of str to Block
            By dotted path of the new parameters, as :func:`ftnn.layers.surgery.parameter_map`
            returns them.

        Raises
        ------
        ValueError
            If a name is unknown, or source and target differ in shape; nothing is changed in that
            case.
        """
        old, new = parameters_of(self.module), parameters_of(module)
        check_blocks(blocks, old, new)
        optimizer, scheduler, average = self.optimizer, self.scheduler, self.average
        before = self.views
        averaged = None if average is None else arrays_of(self.evaluated)
        failed = self.failed
        groups = make_optimizer(self.config, module).param_groups
        if len(groups) != len(optimizer.param_groups):
            raise ValueError(
                "the models differ in whether they have Linear layers, which learn at a rate of "
                "their own; set linear_lr=1"
            )
        self._take(module)
        self.failed = failed
        transfer_optimizer(blocks, before, self.views, optimizer, self.optimizer)
        self.scheduler.load_state_dict(scheduler.state_dict())
        if averaged is not None:
            transfer_arrays(blocks, averaged, arrays_of(self.evaluated))
            self.average.n_averaged.copy_(average.n_averaged)  # type: ignore[union-attr]

    def state(self) -> dict[str, Any]:
        """Return everything that the next steps depend on, as a tree of tensors and numbers."""
        state: dict[str, Any] = {
            "model": arrays_of(self.module),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "steps": self.steps,
            "warm": self._warm,
        }
        if self.average is not None:
            state["average"] = arrays_of(self.evaluated)
            state["num_averaged"] = int(self.average.n_averaged)
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore a state returned by :meth:`state`; raises before anything is changed.

        Raises
        ------
        ValueError, KeyError
            If the state belongs to another model or optimizer.
        """
        self.check_state(state)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.steps = int(state["steps"])
        since, steps = state.get("warm", (0, 0))
        self._warm = (int(since), int(steps))
        set_arrays(self.module, state["model"])
        if self.average is not None:
            set_arrays(self.evaluated, state["average"])
            self.average.n_averaged.fill_(state["num_averaged"])

    def check_state(self, state: dict[str, Any]) -> None:
        """Raise the errors of :meth:`load_state` without changing anything."""
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
    """Map from cores to outputs as a forward pass, as DistributedDataParallel requires."""

    def __init__(self, module: TorchModule):
        super().__init__()
        self.module = module

    def forward(self, *cores: torch.Tensor) -> Any:
        return self.module.apply_cores(cores)
