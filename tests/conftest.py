"""Set-up shared by all tests: shape checking, a quiet matplotlib, threads and data folders."""

import os
import sys

import jaxtyping
import matplotlib
import pytest
import torch

# Check every annotated shape and type of the package while the tests run. The hook only sees
# modules imported after it.
assert "vaebook" not in sys.modules, "vaebook was imported before its shapes could be checked"
jaxtyping.install_import_hook("vaebook", "beartype.beartype")

matplotlib.use("Agg")

# Test processes side by side share the cores instead of fighting for them.
_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
torch.set_num_threads(max(1, (os.cpu_count() or 1) // _workers))


@pytest.fixture
def data_root(tmp_path, monkeypatch):
    """Give the test an empty data folder of its own, which `VAEBOOK_DATA` points to."""
    root = tmp_path / "data"
    root.mkdir()
    monkeypatch.setenv("VAEBOOK_DATA", str(root))
    return root


@pytest.fixture(autouse=True)
def _close_figures():
    """Close the figures a test has opened, before matplotlib warns that there are many."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
