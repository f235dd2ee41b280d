import io
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import vaebook as vb
from vaebook.__main__ import main
from vaebook.training.checkpoints import read
from vaebook.training.progress import Progress

DATA = ["--data", "--offline", "--image-size"]
OPTIONS = {
    "train": [
        *DATA, "--out", "--model", "--likelihood", "--latent-dim", "--epochs", "--batch-size",
        "--lr", "--optimizer", "--beta", "--precision", "--resume", "--device", "--seed",
    ],
    "sample": ["--model", "-n", "--out", "--seed"],
    "evaluate": ["--model", *DATA, "--device", "--seed"],
    "data": ["NAME", "--offline", "--image-size"],
}  # fmt: skip
LEFT = ["config.json", "evolution.png", "history.csv", "latent.png", "loss.png",
        "model.safetensors", "reconstructions.png", "samples.png", "traversal.png"]  # fmt: skip


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder that `train` left."""
    out = tmp_path_factory.mktemp("digits") / "run"
    command = f"train --data digits --image-size 16 --latent-dim 2 --epochs 1 --seed 3 --out {out}"
    assert main([*command.split(), "--device", "cpu"]) == 0
    return out


def test_train_leaves_what_it_promises(run):
    assert names(run) == LEFT
    model = vb.load_model(run / "model.safetensors")
    assert (model.image_shape, model.latent_dim) == ((1, 16, 16), 2)
    history = pd.read_csv(run / "history.csv")
    assert list(history["split"]) == ["train", "validation"]
    config = json.loads((run / "config.json").read_text("utf-8"))
    assert config["model"]["builder"] == "conv_vae"
    assert config["settings"] | {"epochs": 1, "seed": 3, "lr": 0.001} == config["settings"]
    assert "digits" in config["data"]
    assert config["provenance"]["torch"] == torch.__version__
    for path in run.glob("*.png"):
        with Image.open(path) as picture:
            assert min(picture.size) > 100


def test_train_is_fit(run):
    data = vb.load("digits", image_size=16)
    torch.manual_seed(3)
    model = vb.conv_vae(data.image_shape, 2)
    vb.fit(model, data.train, epochs=1, seed=3, device="cpu", progress=False)
    theirs = vb.load_model(run / "model.safetensors").state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(theirs[name], value)


def test_a_model_may_be_lists_of_layers_in_a_file(tmp_path):
    half = {"kind": "dense", "size": 9, "activation": "relu"}
    back = [{"kind": "dense", "size": 256}, {"kind": "reshape", "shape": [1, 16, 16]}]
    lists = {"encoder": [half], "decoder": [half, *back]}
    (tmp_path / "layers.json").write_text(json.dumps(lists), "utf-8")
    command = "train --data digits --image-size 16 --epochs 1 --likelihood gaussian --device cpu"
    files = ["--model", str(tmp_path / "layers.json"), "--out", str(tmp_path / "run")]
    assert main([*command.split(), *files]) == 0
    config = vb.load_model(tmp_path / "run" / "model.safetensors").config
    assert config | lists | {"builder": "layered_vae"} == config
    assert config["likelihood"][0] == "gaussian"


def test_a_run_is_resumed_but_never_overwritten(run, tmp_path, capsys):
    out = tmp_path / "run"
    command = f"train --data digits --image-size 16 --model dense --latent-dim 1 --out {out}"
    assert main([*command.split(), "--epochs", "1"]) == 0
    before = (out / "model.safetensors").read_bytes()
    capsys.readouterr()
    assert main([*command.split(), "--epochs", "2"]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert (out / "model.safetensors").read_bytes() == before
    assert main([*command.split(), "--epochs", "2", "--resume"]) == 0
    assert list(pd.read_csv(out / "history.csv")["epoch"]) == [1, 1, 2, 2]
    # One latent dimension has no plane to show.
    assert names(out) == [name for name in LEFT if name not in ("latent.png", "traversal.png")]


def test_a_folder_of_pictures_needs_no_other_setting(tmp_path, capsys):
    rng = np.random.default_rng(0)
    pictures, out = tmp_path / "pictures", tmp_path / "run"
    pictures.mkdir()
    for i in range(12):
        pixels = rng.integers(0, 256, (64, 64), dtype=np.uint8)
        Image.fromarray(pixels).save(pictures / f"{i}.png")
    assert vb.load(pictures).image_shape == (1, 64, 64)
    command = ["train", "--data", str(pictures), "--out", str(out), "--epochs", "1"]
    assert main(command) == 0
    assert names(out) == LEFT
    assert vb.load_model(out / "model.safetensors").image_shape == (1, 64, 64)
    capsys.readouterr()
    assert main(["evaluate", "--data", str(pictures), "--model", str(out)]) == 0
    assert "12 training images, nats per image" in capsys.readouterr().out


def test_sample_writes_a_picture(run, tmp_path, capsys):
    first, second, other = (tmp_path / f"{name}.png" for name in "abc")
    assert main(["sample", "--model", str(run), "-n", "5", "--out", str(first)]) == 0
    checkpoint = str(run / "model.safetensors")
    assert main(["sample", "--model", checkpoint, "-n", "5", "--out", str(second)]) == 0
    bare = first.parent / "samples"
    assert main(["sample", "--model", checkpoint, "-n", "5", "--out", str(bare)]) == 0
    assert bare.read_bytes() == first.read_bytes()
    assert main(["sample", "--model", str(run), "-n", "5", "--seed", "1", "--out", str(other)]) == 0
    assert "5 samples" in capsys.readouterr().out
    pixels = []
    for path in (first, second, other):
        with Image.open(path) as picture:
            pixels.append(np.asarray(picture))
    assert np.array_equal(pixels[0], pixels[1])
    assert not np.array_equal(pixels[0], pixels[2])


def test_evaluate_prints_the_numbers_of_evaluate(run, capsys):
    command = f"evaluate --model {run} --data digits --seed 5 --device cpu"
    assert main(command.split()) == 0
    printed = dict(re.findall(r"^(\w+) +([\d.]+)$", capsys.readouterr().out, re.MULTILINE))
    model = vb.load_model(run / "model.safetensors")
    test = vb.load("digits", image_size=model.image_shape[1:]).test
    row = vb.evaluate(model, test, seed=5)
    assert printed == {name: f"{row[name]:.2f}" for name in ("loss", "reconstruction", "kl")}


def test_data_says_what_is_there(capsys):
    assert main(["data", "digits", "--image-size", "20x24"]) == 0
    out = capsys.readouterr().out
    assert "1,500 training and 297 test images" in out
    assert "1×20×24" in out


def help_of(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.mark.parametrize("command", OPTIONS)
def test_help_explains_every_option(command, capsys, monkeypatch):
    text = help_of([command], capsys, monkeypatch)
    # An entry begins with two spaces; its words stand further right, or below.
    entries = re.findall(r"^  (-*\w\S*).*?(?: {2,}|\n {9,})(\S.*)$", text, re.MULTILINE)
    assert [name.rstrip(",") for name, _ in entries if name != "-h,"] == OPTIONS[command]
    for name, words in entries:
        assert len(words.split()) > 2, f"{name}: {words}"
        assert "None" not in words
    summary = help_of([], capsys, monkeypatch)
    assert re.search(rf"^ +{command} +\w+ .*\w+", summary, re.MULTILINE)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("train --data digit --out {out}", "digits"),
        ("train --data nowhere/at/all --out {out}", "nowhere/at/all"),
        ("train --data digits --image-size 8 --out {out}", "from 16 to 128"),
        ("train --data digits --epochs 0 --out {out}", "epochs"),
        ("train --data digits --batch-size -1 --out {out}", "batch_size"),
        ("train --data digits --lr -1 --out {out}", "lr"),
        ("train --data digits --beta -1 --out {out}", "beta"),
        ("train --data digits --latent-dim 0 --out {out}", "latent_dim"),
        ("train --data digits --precision half --out {out}", "precision"),
        ("train --data digits --device nowhere --out {out}", "device"),
        ("train --data digits --model rnn --out {out}", "expected conv, dense, or a JSON file"),
        ("train --data digits --model {run}/loss.png --out {out}", "expected conv, dense, or"),
        ("train --data digits --model {run}/config.json --out {out}", "'encoder': [...]"),
        ("sample --model {out}", "expected a model file"),
        ("sample --model {run} -n 0 --out {out}.png", "n: "),
        ("sample --model {run} -n -1 --out {out}.png", "n: "),
        ("sample --model {run} --out {out}/a.png", "a.png"),
        ("sample --model {run} --out {out}.doc", "doc"),
        ("evaluate --model {run}/config.json --data digits", "damaged or no safetensors"),
        ("evaluate --model {run} --data cifar", "cifar10"),
        ("evaluate --model {run} --data digits --image-size 20", "1, 20, 20"),
        ("data mnits", "mnist"),
    ],
)
def test_an_error_is_one_line(command, said, run, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([word.format(out=out, run=run) for word in command.split()]) == 2
    err = capsys.readouterr().err
    assert err.startswith("vaebook: ")
    assert err.count("\n") == 1
    assert said in err
    assert names(tmp_path) == []  # nothing half done is left


def test_a_missing_package_is_one_line(data_root, tmp_path, monkeypatch, capsys):
    """Without torchvision no named set can be read, but all else works."""
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    out = tmp_path / "out"
    for command in ("data mnist", f"train --data kmnist --out {out}"):
        assert main(command.split()) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert re.fullmatch(r"vaebook: torchvision, which reads k?mnist: .*\n", printed.err)
    assert not out.exists()
    assert main(["data", "digits"]) == 0


def test_an_error_of_several_lines_is_printed_in_one(monkeypatch, capsys):
    def load(*_, **__):
        raise ImportError("a library does not fit:\n  this one\n")

    monkeypatch.setattr("vaebook.load", load)
    assert main(["data", "digits"]) == 2
    assert re.fullmatch(r"vaebook: a library does not fit: +this one *\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    "command", ["", "train", "nonsense", "data", "train --data digits --likelihood x",
                "train --data digits --epochs many", "train --data digits --image-size big"]
)  # fmt: skip
def test_a_command_not_understood_ends_with_two(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main(command.split())
    assert stop.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


TINY = "train --data digits --image-size 16 --model dense --latent-dim 1 --device cpu --seed 4"


@pytest.fixture
def no_pictures(monkeypatch):
    """Leave the pictures out, which take longer than the run."""
    monkeypatch.setattr("vaebook.__main__._draw", lambda *_: None)


def test_two_runs_do_not_share_a_folder(no_pictures, tmp_path, capsys):
    out, codes = tmp_path / "run", []
    command = [*TINY.split(), "--epochs", "1", "--out", str(out)]
    load = vb.load

    def load_twice(*args, **options):
        """Begin the second run while the first one loads its images."""
        if not codes:
            codes.append(None)
            codes.append(main(command))
        return load(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vaebook.load", load_twice)
        assert main(command) == 0
    assert codes == [None, 2]
    said = f"vaebook: --out: expected a folder of its own, got {out}, where a run is going on\n"
    assert capsys.readouterr().err == said
    assert names(out) == ["config.json", "history.csv", "model.safetensors"]


def test_a_claim_does_not_outlive_a_killed_process(no_pictures, tmp_path):
    code = "import os, sys; from pathlib import Path; from vaebook.training.runs import claimed\n"
    code += "with claimed(Path(sys.argv[1]), True): os.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == -9
    (tmp_path / ".model.safetensors.0123abcd").write_bytes(b"half")  # of a writer that was killed
    assert names(tmp_path) == [".lock", ".model.safetensors.0123abcd"]
    assert main([*TINY.split(), "--epochs", "1", "--out", str(tmp_path)]) == 0
    assert names(tmp_path) == ["config.json", "history.csv", "model.safetensors"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--out {file}", "--out: expected a folder that can be written, got {file} (File exists)"),
        ("--out {file}/run", "got {file}/run (Not a directory)"),
        ("--out {folder}/none --resume", "got {folder}/none, which holds none"),
        ("--out {folder} --resume", "--resume: expected a run in the folder --out, got {folder}"),
    ],
)
def test_a_folder_is_judged_before_images_are_loaded(options, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("vaebook.load", lambda *_, **__: pytest.fail("images were loaded"))
    (tmp_path / "file").write_text("mine", "utf-8")
    places = {"file": tmp_path / "file", "folder": tmp_path}
    assert main(f"{TINY} {options}".format(**places).split()) == 2
    err = capsys.readouterr().err
    assert said.format(**places) in err
    assert err.count("\n") == 1
    assert names(tmp_path) == ["file"]


def test_a_picture_that_cannot_be_drawn_costs_that_picture(tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise ValueError("one image\nis no cloud")

    for name in ("latent_scatter", "reconstructions"):
        monkeypatch.setattr(f"vaebook.plot.{name}", fail)
    command = TINY.replace("-dim 1", "-dim 2")
    assert main([*command.split(), "--epochs", "1", "--out", str(tmp_path)]) == 0
    lost = ["reconstructions.png", "latent.png"]
    assert names(tmp_path) == sorted(set(LEFT) - set(lost))
    said = [f"vaebook: {name} is not drawn: one image is no cloud" for name in lost]
    assert capsys.readouterr().err.splitlines() == said


def test_ctrl_c_says_what_is_kept(no_pictures, tmp_path, monkeypatch, capsys):
    command = [*TINY.split(), "--epochs", "2", "--out", str(tmp_path)]

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("vaebook.load", interrupt)
        assert main(command) == 130
    assert capsys.readouterr().err == f"vaebook: stopped; no epoch of it is in {tmp_path}\n"
    assert names(tmp_path) == []
    with monkeypatch.context() as patch:
        patch.setattr("vaebook.training.listeners.Bar.on_epoch", interrupt)
        assert main(command) == 130
    said = f"epoch 1 is kept; train --resume --out {tmp_path} goes on from it"
    assert capsys.readouterr().err == f"vaebook: stopped; {said}\n"
    assert len(pd.read_csv(tmp_path / "history.csv")) == 2


def test_after_sigterm_a_run_goes_on_by_the_settings_in_its_folder(
    no_pictures, tmp_path, monkeypatch, capsys
):
    whole, out = tmp_path / "whole", tmp_path / "stopped"
    command = [*TINY.split(), "--epochs", "3", "--out"]
    assert main([*command, str(whole)]) == 0
    count = 0

    def terminate(*_):
        nonlocal count
        count += 1
        if count == 20:  # in the second epoch
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr("vaebook.training.listeners.Bar.on_step", terminate)
        assert main([*command, str(out)]) == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    said = f"vaebook: stopped; epoch 1 is kept; train --resume --out {out} goes on from it\n"
    assert capsys.readouterr().err == said
    assert names(out) == ["config.json", "model.safetensors"]
    assert main(["train", "--resume", "--out", str(out)]) == 0
    one, other = (vb.load_model(each / "model.safetensors") for each in (whole, out))
    assert one.config == other.config
    for name, value in one.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
    # What is typed goes before what is kept.
    assert main(["train", "--resume", "--out", str(out), "--epochs", "4"]) == 0
    assert pd.read_csv(out / "history.csv")["epoch"].max() == 4
    (out / "config.json").write_text("[]", "utf-8")
    assert main(["train", "--resume", "--out", str(out)]) == 2
    assert "config.json is damaged" in capsys.readouterr().err


ODD_SETTINGS = [("device", {"a": 1}), ("seed", 10**30), ("epochs", "x"), ("latent_dim", 10**13)]
ODD_SETTINGS += [("beta", []), ("data", 7), ("image_size", [[1], 2]), ("precision", [None])]


@pytest.mark.parametrize(("name", "value"), ODD_SETTINGS)
def test_odd_settings_of_a_run_are_told_in_a_sentence(tmp_path, capsys, name, value):
    settings = {"data": "digits", "model": "dense", "latent_dim": 2, "epochs": 1, name: value}
    (tmp_path / "config.json").write_text(json.dumps({"settings": settings}), "utf-8")
    try:
        code = main(["train", "--resume", "--out", str(tmp_path)])
    except SystemExit as end:  # argparse's, after the usage
        code = end.code
    assert code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"^vaebook: \w+: |^python -m vaebook\S* ?\w*: error: argument --", last), last


class Closed(io.StringIO):
    """A stream that nobody reads any more."""

    def write(self, text):
        raise BrokenPipeError


@contextmanager
def full_from(size):
    """Let no file become longer than so many bytes, as on a disk that is full."""
    resource = pytest.importorskip("resource")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def test_a_disk_that_is_full_leaves_what_is_there_and_says_where_to_go_on(
    no_pictures, tmp_path, capsys, monkeypatch
):
    data = vb.load("digits", image_size=16)
    data = replace(data, train=data.train[:40], test=data.test[:20])
    monkeypatch.setattr("vaebook.load", lambda *_, **__: data)
    whole, out = tmp_path / "whole", tmp_path / "full"
    for folder, epochs in ((whole, "20"), (out, "1")):
        assert main([*TINY.split(), "--epochs", epochs, "--out", str(folder)]) == 0
    again = ["train", "--resume", "--epochs", "20", "--out", str(out)]
    for size, name, hint in (
        (100, "config.json", ""),
        (5000, "model.safetensors", f"; epoch 1 is kept; train --resume --out {out} goes on "),
        (1500, "history.csv", ""),
    ):
        if name == "history.csv":
            assert main(again) == 0
            (out / "history.csv").write_text("older", "utf-8")
        before = {path.name: path.read_bytes() for path in out.iterdir()}
        capsys.readouterr()
        with full_from(size):
            assert main(again) == 2
        said = capsys.readouterr().err
        assert said.startswith("vaebook: [Errno 27] "), said
        assert f"{str(out / name)!r}{hint}" in said
        assert said.count("\n") == 1
        after = {path.name: path.read_bytes() for path in out.iterdir()}
        assert after.keys() == before.keys()
        assert {n for n in before if after[n] != before[n]} <= {"config.json"} - {name}
    assert main(again) == 0
    one, other = (read(each / "model.safetensors")[1] for each in (whole, out))
    assert one.pop("history")[:, :6].equal(other.pop("history")[:, :6])
    assert all(other[name].equal(value) for name, value in one.items())


def test_a_run_does_not_need_its_readers(no_pictures, tmp_path, monkeypatch):
    for name, stream in {"closed": Closed(), "none": None}.items():
        out = tmp_path / name
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            patch.setattr(sys, "stderr", stream)
            assert main([*TINY.split(), "--epochs", "1", "--out", str(out)]) == 0
            for each in {sys.stdout, sys.stderr} - {stream}:
                each.close()
        assert names(out) == ["config.json", "history.csv", "model.safetensors"]


def test_progress_needs_no_stderr(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    bar = Progress(3)
    bar.step("a note")
    bar.close()


@pytest.mark.skipif(os.name == "nt", reason="for shells")
def test_in_a_shell_without_readers_and_without_unicode():
    python = f'"{sys.executable}" -m vaebook'
    script = f"""
    {python} data digits | true; echo "${{PIPESTATUS[0]}}"
    MPLBACKEND=broken PYTHONIOENCODING=ascii {python} data digits --image-size 16 2>&-; echo $?
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    said = r"0\n.*297 test images.*, 1\?16\?16\n0\n"
    assert re.fullmatch(said, done.stdout), done.stdout
    assert done.stderr == ""


def test_as_a_shell_runs_it(tmp_path):
    command = [sys.executable, "-m", "vaebook", "sample", "--model", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"vaebook: .*none\n", done.stderr)
