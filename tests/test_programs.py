"""What users write around the package: their programs run, are typed, and may fail."""

import csv
import json
import os
import re
import rlcompleter
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import vaebook as vb
from benchmarks import gpu
from tests.forked import run

ROOT = Path(__file__).parents[1]
PROGRAMS = sorted((ROOT / "tests" / "programs").glob("*.py"))


def numbers(line):
    return [float(number) for number in re.findall(r"(?<![\w.])\d+\.\d+", line)]


# --- what each program prints and leaves ------------------------------------------------------


def check_stop_early(lines, folder):
    stopped, patient = numbers(lines["good enough"]), numbers(lines["patience"])
    assert stopped[-1] < 400 <= min(stopped[:-1])
    assert len(stopped) < 50
    best = min(patient)
    assert len(patient) == patient.index(best) + 1 + 2 < 200
    assert numbers(lines["restored"]) == numbers(lines["kept"]) == [best]


def check_log_to_files(lines, folder):
    rows = json.loads(lines["history"])
    with (folder / "log.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["split"] for row in written] == ["train", "validation"] * 3
    for row, expected in zip(written, rows, strict=True):
        assert float(row["loss"]) == pytest.approx(expected["loss"])
    scalars = [json.loads(line) for line in (folder / "scalars.jsonl").read_text().splitlines()]
    found = {(scalar["tag"], scalar["step"]): scalar["value"] for scalar in scalars}
    assert len(found) == len(scalars) == 18
    for row in rows:
        assert found[f"{row['split']}/kl", row["epoch"]] == pytest.approx(row["kl"])
    pictures = [plt.imread(folder / f"latent-0{epoch}.png") for epoch in (1, 2, 3)]
    assert all(picture.std() > 0.05 for picture in pictures)
    assert not np.array_equal(pictures[0], pictures[2])


def check_own_optimizer(lines, folder):
    for name in ("AdamW", "SGD with momentum", "SGD, warmed up and clipped"):
        first, second, third, moved = numbers(lines[name])
        assert first > second > third, name
    cosine = [1e-3 * (1 + np.cos(np.pi * epoch / 3)) / 2 for epoch in (1, 2, 3)]
    rates = [float(lines[f"rate after epoch {epoch}"]) for epoch in (1, 2, 3)]
    assert rates == pytest.approx(cosine, abs=1e-6)
    steps = 3 * 12  # of gradients that are no longer than 1
    assert 0 < moved <= sum(2e-3 * min(step / steps / 0.1, 1) for step in range(steps)) + 1e-4


def check_react_to_validation(lines, folder):
    told = [numbers(lines[f"epoch {epoch}"]) for epoch in range(1, 21)]
    expected = rate = 0.1
    best = float("inf")
    for loss, rate in told:
        assert rate == expected
        expected = rate if loss < best else rate / 2
        best = min(loss, best)
    assert float(lines["rate at the end"]) == expected < 0.1


def check_own_parts(lines, folder):
    assert lines["epochs"] == "1 2"
    for name in ("rows.safetensors", "conv.safetensors"):
        assert lines[name] == "Laplace, same reconstructions: True"


def check_augmented(lines, folder):
    losses = [numbers(lines[name]) for name in ("plain", "shifted")]
    for first, _, last, _ in losses:
        assert first > last
    assert losses[0] != losses[1]
    assert lines["codes of a loader"] == "(297, 2), as of the images: True"


def check_own_loop(lines, folder):
    names = "minibatches, epoch 1", "minibatches, epoch 2", "DataLoader, epoch 3"
    assert all(lines[name].endswith("over 1500 images") for name in names)
    losses = [numbers(lines[name])[0] for name in (*names, "held out")]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_users_program_does_what_it_says(path, tmp_path):
    code, printed, errors = run(path, folder=tmp_path, environment={"MPLBACKEND": "Agg"})
    assert (code, errors) == (0, "")
    lines = dict(line.split(": ", 1) for line in printed.splitlines())
    globals()[f"check_{path.stem}"](lines, tmp_path)


# --- what a type checker and an editor know ---------------------------------------------------

WRONG = """
import vaebook as vb

vb.fitt(1)
vb.conv_vae((1, 28, 28), 2, widht=4)
"""


def mypy(*words):
    """Run mypy; return its exit code and what it printed."""
    command = [sys.executable, "-m", "mypy", *map(str, words)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return run.returncode, run.stdout + run.stderr


@pytest.mark.slow
def test_the_package_is_typed_strictly():
    code, said = mypy()
    assert code == 0, said


@pytest.fixture(scope="module")
def told_by_mypy(tmp_path_factory):
    """What mypy says of the programs, and of one with two mistakes."""
    folder = tmp_path_factory.mktemp("typed")
    (folder / "wrong.py").write_text(WRONG)
    # As of a package that is installed: of the project's settings only what is not read, for its
    # time. PyTorch is typed in part.
    settings = ["--strict", "--untyped-calls-exclude=torch", "--follow-imports=silent"]
    own = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["mypy"]["overrides"]
    (skipped,) = (each["module"] for each in own if each.get("follow_imports") == "skip")
    sections = [f"[mypy-{name}]\nfollow_imports = skip\n" for name in skipped]
    (folder / "mypy.ini").write_text("\n".join(["[mypy]", *sections]))
    places = [f"--config-file={folder / 'mypy.ini'}", "--cache-dir=.mypy_cache/programs"]
    code, said = mypy(*settings, *places, "tests/programs", folder / "wrong.py")
    assert code < 2, said
    return [line for line in said.splitlines() if ": error: " in line]


@pytest.mark.slow
def test_users_programs_are_typed_strictly(told_by_mypy):
    found = [line for line in told_by_mypy if "wrong.py:" not in line]
    assert not found, "\n".join(found)


@pytest.mark.slow
def test_a_wrong_name_and_a_wrong_keyword_are_found_by_a_type_checker(told_by_mypy):
    first, second = (line for line in told_by_mypy if "wrong.py:" in line)
    assert re.search(r':4: error: .*no attribute "fitt"', first)
    assert re.search(r':5: error: Unexpected keyword argument "widht" for "conv_vae"', second)


def test_completion_shows_what_is_the_packages_and_nothing_else():
    completer = rlcompleter.Completer({"vaebook": vb})
    completed = {name.rstrip("()") for name in completer.attr_matches("vaebook.")}
    assert completed == {f"vaebook.{name}" for name in vb.__all__}
    assert {"plot", "from_scratch", "fit", "__version__"} <= set(dir(vb))
    for name in set(dir(vb)) - {"__version__"}:
        thing = getattr(vb, name)
        home = getattr(thing, "__module__", None) or type(thing).__module__
        home = thing.__name__ if isinstance(thing, ModuleType) else home
        assert home.split(".")[0] == "vaebook", f"{name} is from {home}"


# --- callbacks that fail ----------------------------------------------------------------------


class Failure(vb.Listener):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_step(self, run):
        if run.epoch == self.epoch:
            raise OSError("disk full")


def failing_function(model, rows):
    if rows[0]["epoch"] == 2:
        raise OSError("disk full")


@pytest.mark.parametrize("callback", [failing_function, Failure(3)], ids=["epoch", "step"])
def test_a_callback_that_raises_leaves_the_checkpoint_of_the_last_epoch(callback, tmp_path):
    images = vb.load("digits", image_size=16).train[:200]

    def fit(**options):
        torch.manual_seed(0)
        model = vb.dense_vae((1, 16, 16), latent_dim=2, hidden=(10,))
        options = dict(epochs=4, progress=False, precision="float32", device="cpu") | options
        return vb.fit(model, images, **options)

    whole, path = fit(), tmp_path / "run.safetensors"
    with pytest.raises(OSError, match=r"^disk full$") as error:
        fit(callbacks=[callback], checkpoint=path)
    losses = [row["loss"] for row in whole.rows]
    assert [row["loss"] for row in error.value.history.rows] == losses[:2]
    resumed = fit(checkpoint=path, resume=True)
    assert [row["loss"] for row in resumed.rows] == losses
    before, after = ([row["seconds"] for row in h.rows] for h in (error.value.history, resumed))
    assert after[:2] == before  # read from the file


# --- what waits for a GPU ---------------------------------------------------------------------


def test_without_a_gpu_the_script_for_one_says_so_in_a_line():
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(
        [sys.executable, "benchmarks/gpu.py"], cwd=ROOT, env=environment, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 1
    assert run.stdout == ""
    assert re.fullmatch(r"make gpu: expected a GPU with CUDA, got none .*\n", run.stderr)


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Return a function that lets Python programs stand for the parts of the work on a GPU."""

    def replace(jobs, most=60):
        commands = {name: [sys.executable, "-c", job] for name, job in jobs.items()}
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(gpu, "MOST", most)
        monkeypatch.setattr(gpu, "parts", lambda output: commands)

    return replace


@pytest.mark.skipif(os.name == "nt", reason="the script is for where make is")
def test_a_part_that_fails_or_ends_late_does_not_stop_the_others(as_on_a_gpu, tmp_path, capfd):
    late = "import time; time.sleep(60)"
    as_on_a_gpu({"bad": "raise SystemExit(3)", "slow": late, "good": "print(7)"}, most=5)
    assert gpu.main(["--output", str(tmp_path)]) == 1
    out = capfd.readouterr().out
    assert "7\n" in out
    assert out.endswith("bad: failed\nslow: ended late\ngood: passed\n")


def test_what_cannot_begin_in_time_is_left_out(as_on_a_gpu, tmp_path, capsys):
    as_on_a_gpu({"late": "print(7)"})
    assert gpu.main(["--output", str(tmp_path), "--minutes", "0"]) == 1
    assert capsys.readouterr().out.endswith("late: left out\n")


CHAPTER = """---
kernelspec:
  name: python3
---
# A small chapter

```{code-cell} python
print(6 * 7)
```
"""
EXECUTE = """
import sys
from pathlib import Path

from benchmarks import gpu

sys.path.insert(0, "book")
import make_notebooks

chapter = make_notebooks.read_chapter(Path(sys.argv[1]))
make_notebooks.chapters = lambda: {chapter.name: chapter}
gpu.execute("1", Path(sys.argv[1]).parent)
"""


@pytest.mark.slow
def test_a_chapter_is_executed_and_kept(tmp_path):
    path = tmp_path / "01-small.md"
    path.write_text(CHAPTER)
    environment = os.environ | {"JUPYTER_PREFER_ENV_PATH": "1"}
    subprocess.run(
        [sys.executable, "-c", EXECUTE, str(path)], cwd=ROOT, env=environment, check=True
    )
    notebook = json.loads(path.with_suffix(".ipynb").read_text("utf-8"))
    check, code = (cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    assert not check["outputs"], "a package is missing"
    assert [output["text"] for output in code["outputs"]] == [["42\n"]]
