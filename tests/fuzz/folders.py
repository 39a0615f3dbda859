"""Damaged and foreign files of a run folder, through load, evaluate, inspect, plot and resume.

Whatever is wrong is told in one line with exit code 2, within the time limit and little memory;
nothing in the folder is changed, nothing is executed. A call that succeeds nevertheless has to
print what it prints for the folder without damage.
"""

import gzip
import json
import math
import os
import pickle
import random
import shutil
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from calls import MORE_MEMORY, MORE_SECONDS, TINY, Call, Process, call, contents
from safetensors.numpy import load_file, save_file

MODEL, CHECKPOINT = "model.safetensors", "checkpoint.json"
JSON = ("config.json", "summary.json", "metrics.jsonl", CHECKPOINT)

READERS = {
    "config.json": ("evaluate", "inspect", "plot", "resume"),
    "summary.json": ("plot",),
    "metrics.jsonl": ("plot", "resume"),
    CHECKPOINT: ("resume",),
    "tensors": ("resume",),
    MODEL: ("evaluate", "inspect", "plot", "resume"),
}
"""Commands that read a file; the others have no use for it."""


@dataclass(frozen=True)
class Damage:
    """A way to spoil a folder.

    Attributes
    ----------
    name : str
    file : str
        Key of :data:`READERS`.
    spoil : callable
        Called with the path of the file.
    changes : bool
        Whether the file then says something else that is valid: another result may be right.
    certain : bool
        Whether it has to be noticed.
    """

    name: str
    file: str
    spoil: Callable[[Path], object]
    changes: bool = False
    certain: bool = False


def train(folder: Path, epochs: int = 3) -> Path:
    """Train a small run to its end."""
    found = call("train", *TINY, "--epochs", epochs, "--out", folder)
    if found.code:
        raise SystemExit(f"the run to spoil was not trained: {found}")
    return folder


def half_trained(folder: Path, epochs: int = 4) -> Path:
    """Train until the second epoch, then kill the process."""
    process = Process("train", *TINY, "--epochs", epochs, "--out", folder)
    while not (folder / "metrics.jsonl").exists() or len(lines(folder)) < 2:
        time.sleep(0.002)
        if os.waitpid(process.pid, os.WNOHANG)[0]:
            raise SystemExit("the run to interrupt ended too soon")
    process.kill(9)
    process.wait()
    return folder


def lines(folder: Path) -> list[str]:
    """Lines of ``metrics.jsonl``."""
    return (folder / "metrics.jsonl").read_text().splitlines()


# ---- damages -------------------------------------------------------------------------------------


def flip(path: Path, place: float, bit: int) -> None:
    """Flip one bit."""
    data = bytearray(path.read_bytes())
    data[min(int(place * len(data)), len(data) - 1)] ^= 1 << bit
    path.write_bytes(data)


def cut(path: Path, share: float) -> None:
    """Keep a share of the file."""
    data = path.read_bytes()
    path.write_bytes(data[: min(int(share * len(data)), max(0, len(data) - 1))])


def replace(path: Path, what: str, content: bytes = b"") -> None:
    """Put something else in the place of the file."""
    path.unlink()
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "link to itself":
        path.symlink_to(path.name)
    elif what == "link to nowhere":
        path.symlink_to("/nowhere/at/all")
    elif what == "link to a device":
        path.symlink_to("/dev/zero")
    elif what == "content":
        path.write_bytes(content)


class Exploit:
    """Pickles as a command that leaves a trace."""

    def __reduce__(self):
        return os.system, (f"touch {TRACE}",)


TRACE = Path(tempfile.gettempdir()) / f"ftnn-fuzz-executed-{os.getpid()}"

FOREIGN = {
    "nothing": b"",
    "text": b"hello\n",
    "UTF-16": "{}".encode("utf-16"),
    "zeros": bytes(4096),
    "gzip": gzip.compress(b"{}"),
    "pickle": pickle.dumps(Exploit()),
    "HTML": b"<!DOCTYPE html><html></html>",
}

ODD_JSON = {
    "null": "null",
    "list": "[]",
    "number": "5",
    "text": '"text"',
    "empty object": "{}",
    "nested lists": "[" * 100_000 + "]" * 100_000,
    "nested objects": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "digits": "1" * 10_000,
    "infinity": "1e999",
    "NaN": "NaN",
    "lone surrogate": '{"experiment": "\\ud800"}',
}

ODD_VALUES = (None, True, [], {}, "text", "", -1, 0, 1.5, 1e308, 10**30, "../../etc/passwd", [[1]])


def odd_value(path: Path, rng: random.Random) -> str:
    """Replace one value somewhere in a JSON file, or in one of its lines."""
    rows = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    number = rng.randrange(len(rows))
    tree = json.loads(rows[number])
    node, keys = tree, []
    while True:
        inner = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = rng.choice(inner)
        keys.append(str(key))
        if not isinstance(node[key], (dict, list)) or not node[key] or rng.random() < 0.2:
            break
        node = node[key]
    node[key] = rng.choice([v for v in ODD_VALUES if v != node[key]])
    rows[number] = json.dumps(tree)
    path.write_text("\n".join(rows) + "\n")
    return f"{'.'.join(keys)} is {node[key]!r}"


def described(change: Callable[[dict, dict], object]) -> Callable[[Path], None]:
    """Edit the tensors and the description of a model file."""

    def spoil(path: Path) -> None:
        from safetensors import safe_open

        tensors = load_file(path)
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
        about = json.loads(metadata["ftnn"])
        change(tensors, about)
        metadata = {"ftnn": json.dumps(about)}  # without the digest: it could be anyone's
        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path, metadata)

    return spoil


def first_layer(about: dict) -> dict:
    """Description of the first layer with bond dimensions."""
    todo = [about["model"]]
    while todo:
        node = todo.pop(0)
        if "bond_dim" in node.get("config", {}):
            return node
        todo += list(node["children"].values())
    raise LookupError("no layer with a bond")


def deep(about: dict, depth: int) -> None:
    """Put the model into very many networks, one inside the other."""
    for _ in range(depth):
        about["model"] = {"type": "Sequential", "config": {}, "children": {"0": about["model"]}}


def weights(tensors: dict, value: object = None, dtype: str | None = None) -> None:
    """Change the first weight: one entry, or its dtype."""
    name = next(name for name in sorted(tensors) if name.startswith("model."))
    array = tensors[name].copy()
    if value is not None:
        array.reshape(-1)[0] = value
    tensors[name] = array if dtype is None else array.astype(dtype)


MODELS: dict[str, Callable[[dict, dict], object]] = {
    "NaN": lambda t, a: weights(t, math.nan),
    "infinity": lambda t, a: weights(t, math.inf),
    "int64": lambda t, a: weights(t, dtype="int64"),
    "float16": lambda t, a: weights(t, dtype="float16"),
    "bool": lambda t, a: weights(t, dtype="bool"),
    "another precision": lambda t, a: weights(t, dtype="float64"),
    "complex": lambda t, a: weights(t, dtype="complex64"),
    "no arrays": lambda t, a: t.clear() or t.update(x=np.ones(1)),
    "an array less": lambda t, a: t.pop(min(t)),
    "an array more": lambda t, a: t.update({"model.more": np.ones(3, "float32")}),
    "unknown type": lambda t, a: first_layer(a).update(type="os.system"),
    "abstract type": lambda t, a: first_layer(a).update(type="Layer"),
    "type is a list": lambda t, a: first_layer(a).update(type=[]),
    "huge bond": lambda t, a: first_layer(a)["config"].update(bond_dim=10**6),
    "huge max_bond": lambda t, a: first_layer(a)["config"].update(max_bond=10**9),
    "very many sites": lambda t, a: first_layer(a)["config"].update(in_dims=[2] * 10**5),
    "huge dims": lambda t, a: first_layer(a)["config"].update(in_dims=[10**6] * 16),
    "negative bond": lambda t, a: first_layer(a)["config"].update(bond_dim=-1),
    "bond is text": lambda t, a: first_layer(a)["config"].update(bond_dim="3"),
    "bond is a float": lambda t, a: first_layer(a)["config"].update(bond_dim=2.0),
    "dims are none": lambda t, a: first_layer(a)["config"].update(in_dims=None),
    "dims are nested": lambda t, a: first_layer(a)["config"].update(in_dims=[[5]] * 16),
    "seed is text": lambda t, a: first_layer(a)["config"].update(seed="os.system('x')"),
    "unknown argument": lambda t, a: first_layer(a)["config"].update(command="ls"),
    "config is a list": lambda t, a: first_layer(a).update(config=[]),
    "no config": lambda t, a: first_layer(a).pop("config"),
    "children is a list": lambda t, a: a["model"].update(children=[]),
    "no children": lambda t, a: a["model"].update(children={}),
    "no model": lambda t, a: a.pop("model"),
    "model is text": lambda t, a: a.update(model="Linear"),
    "deep": lambda t, a: deep(a, 300),
    "very deep": lambda t, a: deep(a, 470),
    "another format": lambda t, a: a.update(format="ftnn-model-99"),
    "no encoder": lambda t, a: a.pop("encoder"),
    "encoder is text": lambda t, a: a.update(encoder="ProductEncoder"),
    "unknown encoder": lambda t, a: a["encoder"].update(type="pickle.Unpickler"),
    "huge images": lambda t, a: a["encoder"]["config"].update(image_shape=[10**6, 10**6]),
    "patch of nothing": lambda t, a: a["encoder"]["config"].update(patch=[0, 0]),
    "encoder without config": lambda t, a: a["encoder"].pop("config"),
}


def header(path: Path, length: int) -> None:
    """Claim another length of the header."""
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])


def large_tensor(path: Path) -> None:
    """Claim a tensor of 10^12 entries in a small file."""
    size = 4 * 10**12
    text = json.dumps({"x": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, size]}})
    path.write_bytes(struct.pack("<Q", len(text)) + text.encode() + bytes(64))


def another_model(path: Path) -> None:
    """Put a model of other dimensions into the place."""
    import ftnn

    ftnn.save(ftnn.Readout((2, 2), 3, bond_dim=2), path)


def damages(rng: random.Random) -> Iterator[Damage]:
    """Give every damage, in the order in which they are tried."""
    for file in READERS:
        for share in (0.0, 0.01, 0.5, 0.9, 1.0):
            yield Damage(f"cut to {share:.0%}", file, lambda p, s=share: cut(p, s))
        for _ in range(6):
            place, bit = rng.random(), rng.randrange(8)
            # in JSON a digit of a number becomes another one; arrays have a digest
            text, other = f"bit {bit} at {place:.3f} flipped", file in JSON
            spoil = lambda p, a=place, b=bit: flip(p, a, b)  # noqa: E731
            yield Damage(text, file, spoil, changes=other, certain=not other)
        for what in ("missing", "folder", "pipe", "link to itself", "link to nowhere"):
            spoil = lambda p, w=what: replace(p, w)  # noqa: E731
            # nothing but a picture rests on the summary
            yield Damage(what, file, spoil, changes=file == "summary.json")
        yield Damage("link to a device", file, lambda p: replace(p, "link to a device"))
        for what, content in FOREIGN.items():
            yield Damage(what, file, lambda p, c=content: replace(p, "content", c))
    for file in JSON:
        for what, text in ODD_JSON.items():
            spoil = lambda p, t=text: p.write_text(t)  # noqa: E731
            yield Damage(what, file, spoil, changes=True)
        for _ in range(15):
            seed = rng.randrange(2**32)
            spoil = lambda p, s=seed: odd_value(p, random.Random(s))  # noqa: E731
            yield Damage(f"odd value {seed}", file, spoil, changes=True)
    for what, change in MODELS.items():
        yield Damage(what, MODEL, described(change), changes=what == "another precision")
    for file in (MODEL, "tensors"):
        for length in (0, 7, 10**6, 2**40, 2**64 - 1):
            yield Damage(f"header of {length}", file, lambda p, n=length: header(p, n))
        yield Damage("tensor of 10^12 entries", file, large_tensor)
        yield Damage("another model", file, another_model)


# ---- checks --------------------------------------------------------------------------------------


def path_of(folder: Path, file: str) -> Path:
    """Path of a file; the tensors of a checkpoint carry a digest in their name."""
    if file != "tensors":
        return folder / file
    return next(folder.glob("checkpoint-*.safetensors"))


def command(name: str, folder: Path) -> tuple[object, ...]:
    """Arguments of a command."""
    return ("train", "--resume", folder, "--quiet") if name == "resume" else (name, folder)


def wrong(found: Call, clean: Call, damage: Damage, folder: Path, before: dict, after: dict) -> str:
    """What is wrong about a call, or nothing."""
    if TRACE.exists():
        TRACE.unlink()
        return "something was executed"
    if found.seconds > clean.seconds + MORE_SECONDS:
        return f"{found.seconds:.1f} s, {clean.seconds:.1f} s without damage"
    if found.memory > clean.memory + MORE_MEMORY:
        return f"{found.memory >> 20} MiB, {clean.memory >> 20} MiB without damage"
    if found.code == 0:
        if damage.certain:
            return "nothing was noticed"
        if not damage.changes and found.told != clean.told:
            return "it went through, with another result"
        return ""
    if not found.refused:
        return "no clear line"
    if str(folder) not in found.err:
        return "the line does not tell which file is wrong"
    lost = [name for name, digest in before.items() if after.get(name) != digest]
    return f"changed {', '.join(lost)}" if lost else ""


def run(start: int, only: str = "") -> tuple[int, int, list[str]]:
    """Spoil folders, with damages that have ``only`` in file and name, and call commands.

    Returns
    -------
    damages, calls : int
    failures : list of str
    """
    rng, failures, calls, count = random.Random(start), [], 0, 0
    with tempfile.TemporaryDirectory() as home:
        home = Path(home)
        whole, half = train(home / "whole"), half_trained(home / "half")
        clean = {}
        for name in ("evaluate", "inspect", "plot", "resume"):
            folder = Path(shutil.copytree(half if name == "resume" else whole, home / "run"))
            clean[name] = call(*command(name, folder))
            if clean[name].code:
                raise SystemExit(f"{name} fails on a folder without damage: {clean[name]}")
            shutil.rmtree(folder)
        todo = [each for each in damages(rng) if only in f"{each.file}: {each.name}"]
        for number, damage in enumerate(todo):
            count += 1
            if count % 20 == 0:
                print(f"{count} of {len(todo)} damages, {len(failures)} failures", flush=True)
            readers = READERS[damage.file]
            if len(readers) == 4:  # evaluate, and one of the others by turns
                readers = ("evaluate", readers[1 + number % 3])
            for name in readers:
                calls += 1
                folder = Path(shutil.copytree(half if name == "resume" else whole, home / "run"))
                damage.spoil(path_of(folder, damage.file))
                before = contents(folder)
                found = call(*command(name, folder))
                fault = wrong(found, clean[name], damage, folder, before, contents(folder))
                if fault:
                    failures.append(f"{name}, {damage.file}, {damage.name}: {fault}: {found}")
                    print(f"FAILED {failures[-1]}", flush=True)
                shutil.rmtree(folder)
    return count, calls, failures
