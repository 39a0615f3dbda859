"""Hypothesis profiles, and one thread for torch and BLAS: runs repeat, processes do not compete."""

import os

import torch
from hypothesis import HealthCheck, settings
from threadpoolctl import threadpool_limits

collect_ignore = ["fuzz"]  # minutes, not seconds: `make fuzz`

settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile(
    "nightly", settings.get_profile("ci"), derandomize=False, max_examples=500
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
torch.set_num_threads(1)
threadpool_limits(1)
