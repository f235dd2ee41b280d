"""Training by two processes on the CPU, against training by one."""

import os
import socket
import subprocess
import sys
import time

import pandas as pd
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vaebook as vb
from experiments.torture import TWO
from tests.forked import run_together
from vaebook.data import batch_bounds, minibatches
from vaebook.training import teams
from vaebook.training.teams import Team, join, one_first, shared_loss

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
EPOCHS = 3

# What each process runs, and this one, too: nothing random but the order of the images.
SCRIPT = '''
import sys
import torch
import vaebook as vb
from vaebook.training.teams import Team, join, shared_loss

def objective(model, x):
    """Return the negative ELBO at a code that depends on the image alone."""
    mean, log_var = model.encode(x)
    noise = 3 * x.flatten(1)[:, 100 : 100 + mean.shape[1]] - 1
    params = model.decode(mean + (0.5 * log_var).exp() * noise)
    reconstruction = -model.likelihood.log_prob(params, x)
    kl = vb.kl_to_prior(mean, log_var)
    return vb.Terms(reconstruction + kl, reconstruction, kl)

def new_model():
    torch.manual_seed(0)
    return vb.conv_vae((1, 16, 16), latent_dim=3, width=4)

def gradients(images):
    team, model = join(), new_model().train()
    x = images.pixels.float() / 255
    first, last = (len(x) * n // team.size for n in (team.rank, team.rank + 1))
    with shared_loss(model, team) as loss:
        terms = loss(objective, model, x[first:last])
        (terms.loss.sum() * team.size / len(x)).backward()
    found = {f"gradient of {n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    return found | {n: b for n, b in model.named_buffers()}

def trained(data):
    model = new_model()
    history = vb.fit(
        model, data.train[:105], validation=data.test[:33], objective=objective, epochs=3,
        batch_size=26, device="cpu", precision="float32",
    )
    return model.state_dict(), history.rows

class Still(vb.VAE):
    """Its codes have no noise, which would differ from process to process."""
    def reparameterize(self, mean, log_var):
        noise = torch.linspace(-1, 1, mean.shape[1])
        return mean + (0.5 * log_var).exp() * noise

def of_the_batch(data):
    """Train by what a batch says as a whole: free bits, and the optimal sigma."""
    torch.manual_seed(0)
    parts = vb.dense_vae((1, 16, 16), latent_dim=3, hidden=(9,))
    shape = {"image_shape": parts.image_shape, "latent_dim": 3}
    model = Still(parts.encoder, parts.decoder, **shape, likelihood="gaussian")
    history = vb.fit(
        model, data.train[:105], validation=data.test[:33],
        objective=vb.NegativeELBO(free_bits=0.5), epochs=3, batch_size=26, device="cpu",
        precision="float32", progress=False,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1e-4),
    )
    return model.state_dict(), history.rows

def main():
    data = vb.load("digits", image_size=16)
    return gradients(data.train[:11]), *trained(data), *of_the_batch(data)

if __name__ == "__main__":
    found = main()
    torch.save(found, f"{sys.argv[1]}/{join().rank}.pt")
'''


def run(command, folder):
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*LAUNCH, *command], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What two processes found, and one."""
    folder = tmp_path_factory.mktemp("team")
    script = folder / "script.py"
    script.write_text(SCRIPT, "utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        team = TWO | {"MASTER_PORT": str(free.getsockname()[1])}
    ranks = [team | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in (0, 1)]
    ended = run_together([(script, folder)] * 2, folder, ranks)
    assert [code for code, *_ in ended] == [0, 0], ended
    names = {}
    exec(compile(SCRIPT.replace('"__main__"', '""'), str(script), "exec"), names)
    printed = "".join(printed for _, printed, _ in ended)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)], names["main"](), printed


def test_gradients_and_statistics_are_those_of_one_process(results):
    two, (alone, *_), _ = results
    for found, *_ in two:
        assert found.keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5, msg=name)


def test_a_run_is_that_of_one_process(results):
    two, (_, weights, rows, *_), _ = results
    for _, found, found_rows, *_ in two:
        for name, value in weights.items():
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-3, msg=name)
        for row, expected in zip(found_rows, rows, strict=True):
            assert row["split"] == expected["split"]
            for column in ("loss", "reconstruction", "kl"):
                assert row[column] == pytest.approx(expected[column], rel=1e-4)


def test_what_a_batch_says_as_a_whole_is_that_of_one_process(results):
    two, (*_, weights, rows), _ = results
    for *_, found, found_rows in two:
        for name, value in weights.items():
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4, msg=name)
        for row, expected in zip(found_rows, rows, strict=True):
            assert row["loss"] == pytest.approx(expected["loss"], rel=1e-4)


@pytest.mark.parametrize(("device", "taken"), [("cpu", []), ("cuda", [1])])
def test_a_process_takes_a_gpu_only_for_a_training_on_gpus(device, taken, monkeypatch):
    found = []
    monkeypatch.setattr(teams.dist, "is_torchelastic_launched", lambda: True)
    monkeypatch.setattr(teams.dist, "is_initialized", lambda: False)
    monkeypatch.setattr(teams.dist, "rendezvous", lambda _: iter([(None, 1, 2)]))
    monkeypatch.setattr(teams.dist, "init_process_group", lambda **_: None)
    monkeypatch.setattr(teams.atexit, "register", lambda _: None)
    monkeypatch.setattr(teams, "pick_device", torch.device)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", found.append)
    join(device)
    assert found == taken


@pytest.mark.parametrize(("rank", "expected"), [("0", ["work", "wait"]), ("1", ["wait", "work"])])
def test_one_process_of_a_machine_goes_first_also_if_it_fails(rank, expected, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", rank)
    done = []
    monkeypatch.setattr(teams.dist, "barrier", lambda: done.append("wait"))

    def download():
        done.append("work")
        raise OSError("no data")

    with pytest.raises(OSError, match="no data"), one_first(Team(3, 4)):
        download()
    assert done == expected


def test_all_processes_end_with_the_same_model_and_history_and_one_of_them_prints(results):
    ((_, first, rows, *_), (_, second, others, *_)), _, printed = results
    assert all(value.equal(second[name]) for name, value in first.items())
    losses = [[row["loss"] for row in found] for found in (rows, others)]
    assert losses[0] == losses[1]
    assert printed.count("epoch   1 train") == 1


@pytest.mark.torture
def test_a_worker_that_is_killed_costs_an_epoch_at_most(tmp_path):
    out = tmp_path / "run"
    command = ["--max-restarts", "1", "-m", "vaebook", "train", "--data", "digits", "--out", out]
    command += ["--image-size", "16", "--latent-dim", "2", "--epochs", EPOCHS, "--device", "cpu"]
    launcher = run([str(word) for word in command], tmp_path)
    while not (out / "model.safetensors").exists():
        assert launcher.poll() is None, launcher.communicate()[1]
        time.sleep(0.02)
    workers = psutil.Process(launcher.pid).children()
    assert len(workers) == 2
    workers[1].kill()
    printed, errors = launcher.communicate(timeout=600)
    assert launcher.returncode == 0, errors
    history = pd.read_csv(out / "history.csv")
    assert list(history[history.split == "train"].epoch) == list(range(1, EPOCHS + 1))
    assert vb.load_model(out / "model.safetensors").latent_dim == 2
    assert printed.count("epoch   1 train") == 1  # it went on from there


@given(count=st.integers(2, 300), batch_size=st.integers(2, 64), size=st.integers(1, 5))
def test_shares_are_even_and_leave_nothing_out(count, batch_size, size):
    size = min(size, batch_size, count)
    images = vb.as_images((torch.arange(count) % 251).byte().view(-1, 1, 1, 1))
    ranks = [[*minibatches(images, batch_size, rank=rank, processes=size)] for rank in range(size)]
    for shares, (start, stop) in zip(
        zip(*ranks, strict=True), batch_bounds(count, batch_size, size), strict=True
    ):
        whole = torch.cat([share.x for share in shares])
        assert whole.equal(vb.data.to_pixels(images.pixels[start:stop], "cpu"))
        sizes = {len(share.x) for share in shares}
        assert min(sizes) > 0
        assert max(sizes) - min(sizes) <= 1
        assert {share.count for share in shares} == {stop - start}


def test_a_team_of_one_exchanges_nothing():
    model = vb.conv_vae((1, 16, 16), latent_dim=2, width=4)
    with shared_loss(model, Team()) as loss:
        assert loss.model is model
    value = torch.ones(2)
    assert Team().total(value) is value


def test_what_cannot_be_shared_is_refused(monkeypatch):
    monkeypatch.setattr("vaebook.training.loop.join", lambda _: Team(0, 2))
    model = vb.dense_vae((1, 8, 8), latent_dim=2)
    images = torch.rand(8, 1, 8, 8)
    with pytest.raises(ValueError, match=r"batch_size: expected .* each of 2 processes, got 1"):
        vb.fit(model, images, epochs=1, batch_size=1)
    with pytest.raises(ValueError, match=r"images: expected .* each of 2 processes, got 1"):
        vb.fit(model, images[:1], epochs=1)
    with pytest.raises(ValueError, match=r"validation: expected .* each of 2 processes, got 1"):
        vb.fit(model, images, epochs=1, validation=images[:1])
    loader = torch.utils.data.DataLoader(images, batch_size=4)
    with pytest.raises(ValueError, match=r"images: expected Images .* got a DataLoader"):
        vb.fit(model, loader, epochs=1, batch_size=4)
