"""What is asked of the C library's memory."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from vaebook.training import provenance

JOB = """
import resource, sys, torch
from vaebook.speed.memory import keep_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if sys.argv[1] == "keep":
    keep_memory()
each = []
for _ in range(13):
    before = faults()
    torch.empty(2**24).fill_(1)  # 64 MiB
    each.append(faults() - before)
print(sorted(each)[6])  # the median: a busy system may take pages back now and then
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


@pytest.mark.parametrize(
    ("device", "dtype", "allowed", "told"),
    [
        ("cuda", torch.float32, True, True),
        ("cuda", torch.float32, False, False),
        ("cuda", torch.bfloat16, True, False),
        ("cpu", torch.float32, True, False),
    ],
)
def test_where_convolutions_are_in_tf32_the_provenance_says_so(
    device, dtype, allowed, told, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
    found = provenance(torch.device(device), dtype, 0)
    assert (found.get("convolutions") == "TF32") is told
