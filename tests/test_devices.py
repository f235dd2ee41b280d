"""What is asked of the C library's memory."""

import os
import platform
import subprocess
import sys

import pytest

JOB = """
import resource, sys, torch
from vaebook.speed.memory import keep_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if sys.argv[1] == "keep":
    keep_memory()
for count in range(13):
    if count == 3:
        before = faults()
    torch.empty(2**24).fill_(1)  # 64 MiB
print(faults() - before)
"""


def pages_asked_for(job, **environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", JOB, job]
    answer = subprocess.run(
        command, env=kept | environment, check=True, capture_output=True, text=True
    )
    return int(answer.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_large_tensors_reuse_memory_unless_the_environment_has_it_otherwise():
    plain = pages_asked_for("leave")
    assert pages_asked_for("keep") < plain / 10
    assert pages_asked_for("keep", MALLOC_TRIM_THRESHOLD_="131072") > plain / 2
