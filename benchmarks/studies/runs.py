"""Runs of the experiments that the studies share: trained once, kept in runs/."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.pages import ROOT


def trained(folder: Path, experiment: str, *options: str) -> dict:
    """Train into a folder, unless a complete run is there already, and return its summary."""
    summary = folder / "summary.json"
    if not summary.is_file() or "experiment" not in json.loads(summary.read_text()):
        command = [sys.executable, "-m", "ftnn", "train"]
        started = (folder / "checkpoint.json").is_file()
        command += ["--resume", str(folder)] if started else [experiment, "--out", str(folder)]
        subprocess.run([*command, *([] if started else options)], check=True, cwd=ROOT)
    return json.loads(summary.read_text())
