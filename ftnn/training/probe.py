"""Diagnostics of a model in training, on a few samples."""

from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ..chains.entanglement import entanglement_entropies
from ..interpret.error import truncation_error
from ..interpret.trace import trace
from ..layers.layer import Layer

PROBE_SIZE = 32

WORK = 2e9
"""Limit of floating point operations for the error of a layer, which limits the samples."""


def probe(model: Layer, cores: tuple[torch.Tensor, ...]) -> dict[str, Any]:
    """Measure truncation, bonds and entanglement by layer, in float64 on a copy of the model.

    Parameters
    ----------
    model : Layer
    cores : tuple of tensor (n, left, phys, right)
        Inputs, of which the first 32 samples are used.

    Returns
    -------
    dict
        ``"truncation_error"``: mean relative error by path of the layers that truncate, over as
        many samples as a bounded effort allows, omitted if there are none; ``"bond_dims"``: of the
        output, by path of the layers that return states; ``"entropies"``: mean entanglement entropy
        across every bond of the output, in nats, by path of the layers that truncate.
    """
    # overflow shows in the result; one BLAS thread, as these matrices are small: on two
    # busy cores OpenBLAS took 0.42 s with two threads and 0.05 s with one
    with np.errstate(all="ignore"), threadpool_limits(1, user_api="blas"):
        steps = trace(model, tuple(core[:PROBE_SIZE] for core in cores))
        errors, entropies = {}, {}
        for step in steps:
            terms = step.layer.terms(step.inputs)
            if terms:
                error = truncation_error(terms, step.output, WORK)
                error = error[~np.isnan(error)]
                if len(error):
                    errors[step.path] = float(np.mean(error))
                mean = entanglement_entropies(step.output).mean(axis=0)
                entropies[step.path] = mean.tolist()
        return {
            "truncation_error": errors,
            "bond_dims": {
                step.path: [core.shape[3] for core in step.output[:-1]]
                for step in steps
                if isinstance(step.output, tuple)
            },
            "entropies": entropies,
        }
