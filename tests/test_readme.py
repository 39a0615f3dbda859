"""The Python of the README runs, and its commands exist."""

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_ten_lines_run_and_give_every_parameter_a_gradient():
    code, _ = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict = {}
    exec(code, names)
    for parameter in names["model"].named_params().values():
        assert parameter.grad is not None
        assert bool(parameter.grad.isfinite().all())


def test_the_estimator_scores(capsys):
    _, code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(code, {})
    assert float(capsys.readouterr().out) > 0.95


def test_the_make_targets_exist():
    makefile = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^make (\w+)", README, re.MULTILINE))
    assert targets == {"train", "test"}
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
