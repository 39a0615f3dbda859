"""Every single write of a training fails, or the process is killed there: nothing is lost."""

import json
from dataclasses import replace

import pytest
from faults import FAULTS, Disk, Killed
from test_trainer import CONFIG, arrays, make_data, make_model, make_trainer, same, stable

import ftnn
from ftnn.layers.files import read_tensors
from ftnn.training.checkpoint import has_checkpoint

TWO = replace(CONFIG, epochs=2, batch_size=8)
DATA = make_data(train=16, val=6)


def stopped(folder, at, fault):
    """Train with a fault; return what was raised, if anything."""
    try:
        with Disk(folder, at, fault):
            make_trainer(folder, TWO).fit(DATA)
    except (OSError, Killed) as error:
        return error
    return None


def lines(folder):
    text = (folder / "metrics.jsonl").read_text()
    return stable([json.loads(line) for line in text.splitlines()])


def blank():
    """The model, without its numbers."""
    model = make_model()
    model.set_arrays({name: 0 * array for name, array in model.named_arrays().items()})
    return model


def saved(folder):
    return read_tensors(folder / "model.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training without faults: its folder, model, and operations."""
    folder, names = tmp_path_factory.mktemp("whole") / "run", []
    trainer = make_trainer(folder, TWO)
    with Disk(folder.parent, told=lambda number, name: names.append(name)):
        trainer.fit(DATA)
    return folder, arrays(trainer.model), names


def test_the_operations_of_a_training_are_counted(whole):
    _, _, names = whole
    assert {"mkdir", "open", "write", "fsync", "replace", "unlink"} <= {*names}
    # two kept models, three checkpoints of two files, the summary; metrics are appended to
    assert names.count("replace") == 2 + 3 * 2 + 1


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_every_operation(tmp_path, whole, fault):
    folder, expected, names = whole
    told = 0
    for at in range(1, len(names) + 1):
        run, what = tmp_path / str(at), f"{fault} at operation {at}, {names[at - 1]}"
        error = stopped(run, at, fault)
        if isinstance(error, OSError):
            told += 1
            assert str(run) in str(error), f"{what}: {error}"
            assert "\n" not in str(error), what
        if (run / "model.safetensors").exists():
            ftnn.load(run / "model.safetensors")
        resume = has_checkpoint(run)
        trainer = make_trainer(run, TWO, model=blank() if resume else make_model())
        trainer.fit(DATA, resume=resume)
        assert same(arrays(trainer.model), expected), what
        assert lines(run) == lines(folder), what
        (kept, about), (wanted, same_about) = map(saved, (run, folder))
        assert same(kept, wanted), what
        assert about == same_about, what
        assert {path.name for path in run.iterdir()} == {path.name for path in folder.iterdir()}
    assert told > len(names) // 2 or fault == "kill"
