"""The lock of a run folder: one training at a time, whatever became of the last."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading

import pytest

from ftnn.training import lock
from ftnn.training.lock import LOCK_NAME, locked_folder

HOLDER = """
    import sys, time
    from ftnn.training.lock import locked_folder
    with locked_folder(sys.argv[1]):
        print("held", flush=True)
        time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process of its own that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_second_is_refused_in_one_line_and_a_crash_releases(tmp_path, holder):
    before = (tmp_path / LOCK_NAME).read_text()
    with pytest.raises(ValueError, match="in use by another training") as error:
        locked_folder(tmp_path).__enter__()
    text = str(error.value)
    assert "\n" not in text
    assert f"process {holder.pid} on {socket.gethostname()}, since 20" in text
    assert str(tmp_path) in text
    assert (tmp_path / LOCK_NAME).read_text() == before
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / LOCK_NAME).exists()  # left by the crash
    with locked_folder(tmp_path):
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_the_same_thread_may_lock_again_another_may_not(tmp_path):
    refused = []

    def other():
        try:
            with locked_folder(tmp_path):
                pass
        except ValueError as error:
            refused.append(str(error))

    with locked_folder(tmp_path):
        with locked_folder(tmp_path):
            pass
        assert (tmp_path / LOCK_NAME).exists()
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(refused) == 1
    with pytest.raises(KeyError), locked_folder(tmp_path):
        raise KeyError
    with locked_folder(tmp_path):
        pass


@pytest.mark.parametrize(
    ("content", "free"),
    [
        ("", True),
        ("damaged", True),
        ("[" * 1000, True),
        ('{"pid": "x"}', True),
        ('{"pid": GONE, "host": "HOST", "since": "then"}', True),
        ('{"pid": OWN, "host": "HOST", "since": "then"}', False),
        ('{"pid": GONE, "host": "elsewhere", "since": "then"}', False),
    ],
)
@pytest.mark.parametrize("kind", ["none", "unsupported"])
def test_without_locks_of_the_system_the_file_decides(tmp_path, monkeypatch, content, free, kind):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for word, value in (("GONE", gone.pid), ("OWN", os.getpid()), ("HOST", socket.gethostname())):
        content = content.replace(word, str(value))
    if kind == "none":
        monkeypatch.setattr(lock, "fcntl", None)
    else:

        def unsupported(*arguments):
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(lock.fcntl, "flock", unsupported)
    path = tmp_path / LOCK_NAME
    path.write_text(content)
    if free:
        with locked_folder(tmp_path):
            assert json.loads(path.read_text())["pid"] == os.getpid()
        assert not path.exists()
    else:
        with pytest.raises(ValueError, match=r"since then.*remove"):
            locked_folder(tmp_path).__enter__()
        assert path.read_text() == content


def test_two_trainings_into_one_folder(tmp_path, holder):
    pytest.importorskip("torch")
    from test_trainer import make_data, make_trainer

    for resume in (False, True):
        with pytest.raises(ValueError, match=f"process {holder.pid} on"):
            make_trainer(tmp_path).fit(make_data(), resume=resume)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]
