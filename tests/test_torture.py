"""Trainings that are killed and resumed: the short form of `make torture`."""

import re
import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="the processes are forked")
def test_what_is_disturbed_and_resumed_ends_as_the_undisturbed():
    options = ["--kills", "10", "--pairs", "2", "--together", "2", "--minutes", "9"]
    command = [sys.executable, "-m", "experiments.torture", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    counts = re.match(
        r"1[01] kills at a moment, (\d+) at a byte, (\d+) before a call, (\d+) full disks; "
        r"[1-9]\d* runs ended as undisturbed\n2 kills of one of two",
        done.stdout,
    )
    assert counts, done.stdout
    assert sum(map(int, counts.groups())) >= 3
