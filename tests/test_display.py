"""Progress: plain lines in logs, a live display on terminals, nothing when quiet."""

import io
import os
import re
import threading

import pytest

pytest.importorskip("torch")
from ftnn.training import display as module
from ftnn.training.display import LiveDisplay, PlainDisplay, make_display
from ftnn.training.score import ACCURACY

RECORD = {
    "epoch": 1,
    "train_loss": 0.5,
    "train_accuracy": 0.875,
    "val_loss": None,
    "val_accuracy": 0.9,
    "lr": 1e-3,
    "samples_per_s": 1234.0,
    "truncation_error": {"0": 1e-3, "2.layer": 2e-2, "3": None},
    "seconds": 1.5,
}
NUMBERS = {"train_loss": 0.5, "train_accuracy": 0.875, "samples_per_s": 1234.0}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def play(display, epochs=2, steps=3):
    with display:
        display.start(epochs, steps, 0)
        for epoch in range(1, epochs + 1):
            for step in range(1, steps + 1):
                display.step(epoch, (epoch - 1) * steps + step, NUMBERS)
            display.epoch(RECORD | {"epoch": epoch})
        display.message("done in [/tmp/run]")


def test_plain_lines(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as CI services do: still a log, not a terminal
    stream = io.StringIO()
    display = make_display(ACCURACY, stream=stream)
    assert isinstance(display, PlainDisplay)
    play(display)
    text = stream.getvalue()
    assert "\x1b" not in text
    assert "\r" not in text
    assert text.isascii()
    lines = text.splitlines()
    assert len(lines) == 4  # headings, two epochs, a message
    assert lines[1].split() == [
        *("1", "0.5000", "87.50%", "-", "90.00%"),
        *("1.00e-03", "1234", "2.0e-02", "1.5"),
    ]
    assert len(lines[0]) == len(lines[1])
    assert lines[3] == "done in [/tmp/run]"


def test_a_short_line_now_and_then_within_a_long_epoch(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    display = make_display(ACCURACY, stream=stream)
    display.start(2, 100, 0)
    for step in range(1, 51):
        now[0] += 1.0
        display.step(1, step, NUMBERS)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 5
    assert lines[0] == "  epoch 1 step 10/100  loss 0.5000  acc 87.50%  1234 samples/s  3:10 left"
    now[0] += 7200.0
    display.step(2, 101, NUMBERS)
    assert "epoch 2 step 1/100" in stream.getvalue()
    assert re.search(r"\d:\d\d:\d\d left", stream.getvalue())


def test_resumed_estimates_count_from_the_resumption(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    display = make_display(ACCURACY, stream=stream)
    display.start(2, 100, 150)
    now[0] += 20.0
    display.step(2, 160, NUMBERS)
    assert stream.getvalue().rstrip().endswith("1:20 left")


def test_quiet_says_nothing(capfd):
    play(make_display(ACCURACY, quiet=True))
    assert capfd.readouterr() == ("", "")


def test_standard_output_is_the_default(capsys):
    play(make_display(ACCURACY))
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_dumb_terminals_get_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(make_display(ACCURACY, stream=Terminal()), PlainDisplay)


def test_live_display_keeps_the_table_and_takes_the_bar_away(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    stream = Terminal()
    display = make_display(ACCURACY, stream=stream)
    assert isinstance(display, LiveDisplay)
    before = set(threading.enumerate())
    play(display)
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=5.0)
        assert not thread.is_alive()  # the one that draws
    text = stream.getvalue()
    assert "\x1b[?25l" in text  # the cursor is hidden,
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # and comes back
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    assert module.header(ACCURACY) in plain
    assert module.row(RECORD, ACCURACY) in plain
    assert module.row(RECORD | {"epoch": 2}, ACCURACY) in plain
    assert "done in [/tmp/run]" in plain
    assert "epoch 2/2" in plain
    assert "loss 0.5000  acc 87.50%  1234 samples/s  trunc 2.0e-02" in plain


def test_live_display_is_closed_on_errors(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()

    def interrupted():
        with make_display(ACCURACY, stream=stream) as display:
            display.start(1, 2, 0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "\x1b[?25h" in stream.getvalue()  # the cursor is back


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_a_real_terminal_is_found(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    leader, follower = os.openpty()
    with os.fdopen(follower, "w") as stream:
        assert isinstance(make_display(ACCURACY, stream=stream), LiveDisplay)
    os.close(leader)


@pytest.mark.parametrize("errors", [None, {}, {"0": None}])
def test_no_truncation_error_is_a_dash(errors):
    assert module.row(RECORD | {"truncation_error": errors}, ACCURACY).split()[-2] == "-"
