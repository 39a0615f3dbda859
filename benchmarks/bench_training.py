"""Whole training steps and the inference of the experiments under asv.

Steps are those of ``training.py``: forward, backward, clipping and update on states drawn at
random. Inference is that of the shipped networks, fresh from their configuration, on the inputs of
their quick trials. What cannot run here is skipped.
"""

import torch

from ftnn.arrays.backend import convert
from ftnn.experiments import experiment_names, get_experiment, select_rows
from ftnn.measure.memory import keep_freed_memory, peak_bytes
from ftnn.training import TorchModule

from .training import Work

WORKS = {
    "sketch": {},
    "deep": {"depth": 4},
    "long": {"L": 100, "phys": 4, "D": 4, "batch": 32},
    "wide": {"L": 10, "phys": 4, "chi": 32, "batch": 32},
}
MODES = {"plain": {}, "recomputed": {"recompute": True}, "compiled": {"compile": True}}


class Step:
    """A training step on the CPU, float32."""

    params = (list(WORKS), list(MODES))
    param_names = ("network", "mode")
    timeout = 600  # compiling takes a minute or two

    def setup(self, network, mode):
        if (network, mode) == ("long", "compiled"):
            raise NotImplementedError("a graph of a hundred sites keeps the compiler busy too long")
        keep_freed_memory()
        torch.compiler.reset()
        self.step = Work(**WORKS[network], **MODES[mode]).step()
        self.step()

    def time_step(self, network, mode):
        self.step()


class StepMemory:
    """A training step on the CPU, float32, libraries included, and its tensors alone."""

    params = (list(WORKS), ["plain", "recomputed"])
    param_names = ("network", "mode")

    def setup(self, network, mode):
        self.step = Work(**WORKS[network], **MODES[mode]).step()

    def peakmem_step(self, network, mode):
        self.step()

    def track_peak_bytes(self, network, mode):
        return peak_bytes(self.step)

    track_peak_bytes.unit = "bytes"


class Inference:
    """256 test inputs of an experiment, at the size of its quick trial, to outputs."""

    params = sorted(experiment_names())
    param_names = ("experiment",)
    timeout = 600

    def setup(self, name):
        keep_freed_memory()
        experiment = get_experiment(name)
        options = experiment.tuned_options(quick=True)
        try:
            data = experiment.load(options)
        except FileNotFoundError as error:
            raise NotImplementedError(str(error)) from None
        self.encoder, network = experiment.build(options, data)
        self.module = TorchModule(network, "float32").eval()
        self.inputs = select_rows(data.split("test")[0], slice(256))
        self.time_outputs(name)

    @torch.no_grad()
    def time_outputs(self, _):
        states = self.inputs if self.encoder is None else self.encoder.encode(self.inputs)
        self.module.apply_cores(tuple(convert(core, "torch", "float32") for core in states))
