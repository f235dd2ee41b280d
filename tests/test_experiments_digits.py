"""The experiment behind *Digits, two ways*, and what of it is committed."""

import copy
import dataclasses
import json
import re
import statistics
from pathlib import Path

import pytest
import torch

import vaebook as vb
from experiments import digits
from vaebook.training import loop

BOOK = Path(__file__).parents[1] / "book"
SHORT = {"epochs": 2, "batch_size": 32, "precision": "float32"}


@pytest.fixture
def small(monkeypatch):
    """Make the networks small, and the stand-in for MNIST a few images."""
    networks = copy.deepcopy(digits.NETWORKS)
    for layers in networks.values():
        for layer in layers["encoder"] + layers["decoder"]:
            for key, size in layer.items():
                if key in ("size", "channels") and size not in (784, 1):
                    layer[key] = 8
    settings = {network: SHORT | {"lr": 1e-3} for network in networks}
    monkeypatch.setattr(digits, "NETWORKS", networks)
    monkeypatch.setattr(digits, "SETTINGS", settings)
    data = vb.load("digits")
    few = dataclasses.replace(data, train=data.train[:64], test=data.test[:32])
    monkeypatch.setattr(vb, "load", lambda name: few)
    return few


@pytest.fixture(scope="module")
def committed():
    """What the experiment left: the rows and the runs."""
    return digits.committed(digits.RESULTS)


def configurations():
    """Return the lists of layers that the chapter writes out."""
    source = (BOOK / "10-digits-two-ways.md").read_text(encoding="utf-8")
    names = {}
    for cell in re.findall(r"(?ms)^```\{code-cell\} python\n(.*?)^```$", source):
        if re.search(r"(?m)^(mlp|conv)_layers = ", cell):
            exec(cell, names)
    return {"mlp": names["mlp_layers"], "conv": names["conv_layers"]}


def test_the_chapter_and_the_experiment_have_the_same_networks():
    assert configurations() == digits.NETWORKS


def test_the_mlp_is_the_dense_vae_of_the_package():
    built = digits.build("mlp", seed=3)
    torch.manual_seed(3)
    packaged = vb.dense_vae((1, 28, 28), digits.LATENT_DIM)
    pairs = zip(built.parameters(), packaged.parameters(), strict=True)
    assert all(torch.equal(mine, its) for mine, its in pairs)


def test_every_run_is_committed_with_a_row_for_each_epoch(committed):
    rows, runs = committed
    wanted = [(network, seed) for network in digits.NETWORKS for seed in digits.SEEDS]
    assert [digits.which(run) for run in runs] == wanted
    for run in runs:
        epochs = digits.SETTINGS[run["network"]]["epochs"]
        assert run["settings"] == digits.SETTINGS[run["network"]]
        mine = [row for row in rows if digits.which(row) == digits.which(run)]
        for split in ("train", "test"):
            found = [row for row in mine if row["split"] == split]
            assert [int(row["epoch"]) for row in found] == list(range(1, epochs + 1))
            assert float(found[-1]["loss"]) == pytest.approx(run[f"{split}_loss"], abs=1e-3)
            best = min(float(row["loss"]) for row in found)
            assert best == pytest.approx(run[f"best_{split}_loss"], abs=1e-3)
        for row in mine:
            parts = float(row["reconstruction"]) + float(row["kl"])
            assert parts == pytest.approx(float(row["loss"]), abs=2e-3)
        assert {"device", "threads", "precision", "torch", "python"} <= run["run"].keys()
        assert "60,000" in run["data"]
        assert run["seconds"] > 0


def test_every_run_is_below_the_source(committed):
    for run in committed[1]:
        if run["network"] == "mlp":
            assert run["train_loss"] < 96.21
        else:
            assert run["best_train_loss"] < 98


def test_mean_and_spread_are_those_of_the_runs(committed):
    about = json.loads((digits.RESULTS / "digits.json").read_text(encoding="utf-8"))
    assert about["networks"] == digits.NETWORKS
    assert 44 < about["bernoulli_floor"] < 48
    for network, table in about["mean_and_spread"].items():
        for key, found in table.items():
            values = [run[key] for run in committed[1] if run["network"] == network]
            assert found["mean"] == pytest.approx(statistics.mean(values), rel=1e-4)
            assert found["spread"] == pytest.approx(statistics.stdev(values), rel=1e-3, abs=1e-4)


def test_runs_are_kept_resumed_and_collected(small, tmp_path, monkeypatch, capsys):
    scratch, results = tmp_path / "scratch", tmp_path / "results"
    folders = [f"--scratch={scratch}", f"--results={results}"]
    whole = digits.train(small, "mlp", 0, tmp_path / "other")
    monkeypatch.setattr(loop, "judge", stop_at_the_second_call(loop.judge))
    with pytest.raises(KeyboardInterrupt):
        digits.main(["--network=mlp", "--seed=0", *folders])
    assert not list(scratch.glob("*.json"))
    resumed = digits.train(small, "mlp", 0, scratch)
    losses = [[row["loss"] for row in run["rows"]] for run in (whole, resumed)]
    assert losses[0] == losses[1]
    assert digits.assemble(scratch, results, small) == 1
    capsys.readouterr()
    assert digits.main(["--list", *folders]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert "mlp seed 0: done" in listed
    assert "conv seed 0: missing" in listed
    next(scratch.glob("*.json")).unlink()
    digits.train(small, "conv", 2, scratch)
    assert digits.assemble(scratch, results, small) == 2, "what was committed before stays"
    rows, runs = digits.committed(results)
    assert [digits.which(run) for run in runs] == [("mlp", 0), ("conv", 2)]
    assert len(rows) == 8
    assert list(rows[0]) == digits.COLUMNS


def stop_at_the_second_call(function):
    """Return a function that once, at its second call, is as if Ctrl-C had come."""
    calls = []

    def stopped(*arguments, **named):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return function(*arguments, **named)

    return stopped


def test_help_explains_itself(capsys):
    with pytest.raises(SystemExit):
        digits.main(["--help"])
    text = capsys.readouterr().out
    wanted = ("--network", "--seed", "--list", "--assemble", "--scratch", "digits_curves.csv")
    assert all(word in text for word in wanted)
