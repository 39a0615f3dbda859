"""Preparation of samples: checked, encoded, and compared with the model and the objective."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..encoding import Encoder
from .config import TrainConfig
from .data import Samples, encode
from .inputs import batches, check_inputs
from .module import TorchModule
from .objective import Objective
from .world import World


@dataclass(frozen=True, eq=False)
class Preparation:
    """What samples are prepared for.

    Attributes
    ----------
    module : TorchModule
    encoder : Encoder or None
    config : TrainConfig
    device : str
    objective : Objective
    world : World
    """

    module: TorchModule
    encoder: Encoder | None
    config: TrainConfig
    device: str
    objective: Objective
    world: World

    def training(self, data: Any, augmented: bool) -> tuple[Samples, Samples | None]:
        """Check and encode training and validation samples.

        Parameters
        ----------
        data : TrainingData or similar
        augmented : bool
            Encode only one training image: all are encoded anew every epoch.

        Raises
        ------
        TypeError, ValueError
            If the samples do not suit the model, the objective, or the configuration.
        """
        val_inputs = getattr(data, "val_inputs", None)
        val_targets = getattr(data, "val_targets", None)
        if (val_inputs is None) != (val_targets is None):
            raise ValueError("give both val_inputs and val_targets, or neither")
        if self.config.patience and val_inputs is None:
            raise ValueError(
                "patience needs val_inputs and val_targets to see improvement; "
                "give them or set patience=0"
            )
        if augmented and not isinstance(data.train_inputs, np.ndarray):
            raise ValueError(
                "augment transforms images, but train_inputs are states; drop augment, or give "
                "images and an encoder"
            )
        names = ("train_inputs", "train_targets")
        train = self.samples(data.train_inputs, data.train_targets, *names, first_only=augmented)
        val = None
        if val_inputs is not None:
            val = self.samples(val_inputs, val_targets, "val_inputs", "val_targets")
        last = batches(len(train), self.config.batch_size)[-1]
        if self.world.size > len(last):
            raise ValueError(
                f"batch_size is {self.config.batch_size}, and the smallest of the batches has "
                f"{len(last)} samples, for {self.world.size} processes; use larger batches or "
                "fewer processes"
            )
        return train, val

    def samples(
        self,
        inputs: Any,
        targets: Any,
        inputs_name: str,
        targets_name: str,
        first_only: bool = False,
    ) -> Samples:
        """Check and encode; with ``first_only`` encode only one image."""
        num_samples = None
        if first_only:
            check_inputs(inputs, self.encoder, inputs_name)
            inputs, num_samples = inputs[:1], len(inputs)
        cores = encode(inputs, self.encoder, inputs_name, self.config.dtype, self.device)
        dims = tuple(core.shape[2] for core in cores)
        if self.module.model.in_dims is not None and dims != self.module.model.in_dims:
            raise ValueError(
                f"{inputs_name} are states of phys_dims {dims}, but the model takes "
                f"{self.module.model.in_dims}; use the encoder the model was built for"
            )
        with torch.no_grad(), self.module.evaluating():
            output = self.module.apply_cores(tuple(core[:1].to(self.device) for core in cores))
        count = num_samples or len(cores[0])
        checked = self.objective.targets(targets, count, output, targets_name)
        return Samples(cores, tuple(torch.from_numpy(x).to(cores[0].device) for x in checked))
