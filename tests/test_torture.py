"""Trainings that are killed and resumed: the short form of `make torture`."""

import os
import re
import subprocess
import sys

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked")
def test_what_is_killed_and_resumed_ends_as_the_undisturbed():
    command = [sys.executable, "-m", "experiments.torture", "--kills", "20", "--together", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"2\d kills; [1-9]\d* runs ended as undisturbed", done.stdout), done.stdout
