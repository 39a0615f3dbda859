"""Several processes under torchrun, and processes killed at any moment."""

import json
import os
import random
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from ftnn.layers.containers import read_tensors

torch = pytest.importorskip("torch")
from ftnn.training.world import World, current_world, joined_world  # noqa: E402

LEFT_OUT = ("seconds", "samples_per_s", "truncation_error")  # timings, and round-off
HERE = Path(__file__).parent


def run_python(*arguments, check=True, **more):
    """Run a Python of its own, with one thread."""
    folders = [str(HERE.parent), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(folders)}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        **more,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def torchrun(*arguments, check=True):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    return run_python(*launcher, *arguments, check=check)


def records(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [{k: v for k, v in record.items() if k not in LEFT_OUT} for record in found]


def model_of(folder):
    tensors, _ = read_tensors(folder / "model.safetensors")
    return tensors


def assert_alike_models(one, two):
    first, second = model_of(one), model_of(two)
    assert first.keys() == second.keys()
    for name in first:
        assert np.allclose(first[name], second[name], rtol=1e-8, atol=1e-10)


def assert_alike(a, b, tolerance):
    """Numbers of nested records agree within a relative tolerance."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_alike(a[key], b[key], tolerance)
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_alike(x, y, tolerance)
    elif isinstance(a, float):
        assert a == pytest.approx(b, rel=tolerance, abs=1e-12)
    else:
        assert a == b


TRAINING = """
    import sys
    import numpy as np, torch, ftnn
    from dataclasses import replace
    from pathlib import Path
    from ftnn.training.world import joined_world
    from test_trainer import CONFIG, make_data, make_model, make_trainer

    def noisy(cores, rng):
        return tuple(c + torch.from_numpy(0.1 * rng.standard_normal(c.shape)) for c in cores)

    config = replace(CONFIG, dtype="float64", ema_decay=0.9, batch_size=19, epochs=3)
    data = make_data(train=81, val=41)  # neither is divided evenly
"""


def test_two_processes_train_as_one_with_the_joint_batch(tmp_path):
    script = tmp_path / "script.py"
    body = """
    with joined_world() as world:
        layers = make_model(seed=world.rank).layers
        model = ftnn.Sequential(ftnn.nonlinear.Dropout(0.4), *layers)
        trainer = make_trainer(Path(sys.argv[1]), config, model)
        result = trainer.fit(data, augment_states=noisy)
        assert len(result.history) == 3
        assert all(layer.batch_share is None for layer in model.layers)
    """
    script.write_text(textwrap.dedent(TRAINING) + textwrap.dedent(body))
    run_python(script, tmp_path / "one")
    torchrun(script, tmp_path / "two")
    one, two = records(tmp_path / "one"), records(tmp_path / "two")
    assert [record["epoch"] for record in two] == [1, 2, 3]
    assert_alike(one, two, 1e-9)
    assert_alike_models(tmp_path / "one", tmp_path / "two")


def test_two_processes_grow_as_one(tmp_path):
    script = tmp_path / "script.py"
    body = """
    with joined_world() as world:
        grow = "epoch=1 inflate=4; plateau=1 inflate=+1 where=best warm=0"
        trainer = make_trainer(Path(sys.argv[1]), replace(config, grow=grow), make_model())
        assert len(trainer.fit(data).history) == 3
        for param in trainer.module.parameters():
            assert torch.equal(world.sum(param.detach()), 2 * param.detach()) or world.size == 1
    """
    script.write_text(textwrap.dedent(TRAINING) + textwrap.dedent(body))
    run_python(script, tmp_path / "one")
    torchrun(script, tmp_path / "two")
    one, two = records(tmp_path / "one"), records(tmp_path / "two")
    assert [record.get("growth") for record in one] == [record.get("growth") for record in two]
    assert one[0]["growth"]
    assert_alike(one, two, 1e-9)
    assert_alike_models(tmp_path / "one", tmp_path / "two")


def test_processes_agree(tmp_path):
    """On errors, stops, running statistics; and a run of two goes on as one."""
    script = tmp_path / "script.py"
    body = """
    folder = Path(sys.argv[1])
    with joined_world() as world:
        assert world.size == 2
        assert world.any(world.rank == 1) and not world.any(False)
        assert world.sum(torch.tensor([1.0, world.rank])).tolist() == [2.0, 1.0]
        assert world.from_leader(lambda: world.rank) == 0
        for wrong in (lambda: int("x"), lambda: {}["x"]):
            try:
                world.from_leader(wrong)
            except (ValueError, KeyError):
                pass
            else:
                raise AssertionError("a process did not hear of the error")
        with world.leader_first():
            assert world.leads or (folder / "first").exists()
            (folder / "first").touch()

        # running statistics of the halves become those of the whole
        first, *rest = make_model().layers
        model = ftnn.Sequential(first, ftnn.nonlinear.CoreNorm(product="running"), *rest)
        trainer = make_trainer(folder / "norm", replace(config, batch_size=20, epochs=1), model)
        trainer.fit(make_data(train=80))
        mean = trainer.module.get_buffer("1:log_product")
        assert torch.allclose(world.sum(mean.clone()), 2 * mean) and mean != 0

        # one process is asked to stop, all do
        trainer = make_trainer(folder / "run", config)
        step = trainer.world.any
        calls = []
        def asked(flag):
            calls.append(flag)
            if world.rank == 1 and len(calls) == 8:
                trainer.request_stop()
            return step(flag)
        object.__setattr__(trainer.world, "any", asked)
        assert trainer.fit(data).outcome == "stopped"
        try:
            make_trainer(folder / "small", replace(config, batch_size=1)).fit(data)
        except ValueError as error:
            assert "2 processes" in str(error)
        else:
            raise AssertionError("batches of one sample cannot be shared")
    """
    script.write_text(textwrap.dedent(TRAINING) + textwrap.dedent(body))
    torchrun(script, tmp_path)
    on = """
    make_trainer(Path(sys.argv[1]), config).fit(data, resume=len(sys.argv) > 2)
    """
    script.write_text(textwrap.dedent(TRAINING) + textwrap.dedent(on))
    run_python(script, tmp_path / "run", "resume")
    run_python(script, tmp_path / "whole")
    assert_alike(records(tmp_path / "run"), records(tmp_path / "whole"), 1e-9)


def test_alone_nothing_is_sent():
    with joined_world() as world:
        assert world == World() == current_world()
        assert world.leads
        assert world.any(True)
        assert not world.any(False)
        x = torch.ones(2)
        assert world.sum(x) is x
        with world.leader_first():
            world.wait()
        with pytest.raises(ValueError, match="invalid literal"):
            world.from_leader(lambda: int("x"))
    parts = [World(rank, 3).share(np.arange(8)) for rank in range(3)]
    assert np.array_equal(np.concatenate(parts), np.arange(8))
    assert {len(part) for part in parts} == {2, 3}


OPTIONS = ("--limit", "150", "--epochs", "3", "--batch-size", "30", "--threads", "1")


def test_torchrun_trains_with_the_same_command(tmp_path):
    command = ("-m", "ftnn", "train", "digits", *OPTIONS, "--dtype", "float64", "--out")
    run_python(*command, tmp_path / "one")
    done = torchrun(*command, tmp_path / "two")
    assert done.stdout.count("test accuracy") == 1  # only the leader speaks
    assert "2 processes share every batch" in done.stdout
    one, two = records(tmp_path / "one"), records(tmp_path / "two")
    # rounding grows a million times in the 15 steps of this network, whose gradients are steep
    for record, other, tolerance in zip(one, two, (1e-9, 1e-5, 1e-3), strict=True):
        for name in ("train_loss", "val_loss"):
            assert record[name] == pytest.approx(other[name], rel=tolerance)
    summaries = [json.loads((tmp_path / n / "summary.json").read_text()) for n in ("one", "two")]
    assert abs(summaries[0]["test_accuracy"] - summaries[1]["test_accuracy"]) < 0.01
    failed = torchrun(*command, tmp_path / "two", check=False)
    assert failed.returncode != 0
    assert "holds a run already" in failed.stderr


def test_killed_at_any_moment_a_run_goes_on_to_the_same_result(tmp_path):
    command = ("-m", "ftnn", "train", "digits", *OPTIONS, "--checkpoint-seconds", "0.001")
    run_python(*command, "--out", tmp_path / "whole")
    folder, rng = tmp_path / "killed", random.Random(0)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    start = [sys.executable, *command, "--out", str(folder)]
    resume = [sys.executable, "-m", "ftnn", "train", "--resume", str(folder), "--quiet"]
    kills, line = 0, start
    while kills < 3:
        process = subprocess.Popen(
            line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if not _checkpoint_after(folder, process):
            break
        time.sleep(rng.uniform(0.0, 0.3))
        process.kill()  # SIGKILL
        process.wait()
        kills, line = kills + 1, resume
    assert kills >= 2
    run_python(*resume[1:])
    assert records(folder) == records(tmp_path / "whole")
    first, second = model_of(folder), model_of(tmp_path / "whole")
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    leftovers = [path.name for path in folder.iterdir() if path.name.endswith(".part")]
    assert not leftovers


def _checkpoint_after(folder, process):
    """Wait for a checkpoint that is newer than now; False if the process ended before."""
    path = folder / "checkpoint.json"
    before = path.read_text() if path.exists() else ""
    while process.poll() is None:
        if path.exists() and path.read_text() != before:
            return True
        time.sleep(0.005)
    return False
