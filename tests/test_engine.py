"""The recorded step, against the plain one."""

from functools import partial

import pytest
import torch

import vaebook as vb
from vaebook import engine
from vaebook.engine import WARM_UP, Recorded

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")


class Tape:
    """What a CUDA graph does, on the CPU: nothing when recorded; then the work, into one place."""

    def __init__(self, like):
        self.like, self.recordings, self.replays = like, 0, 0

    def record(self, work):
        self.recordings += 1
        place = torch.zeros_like(self.like)

        def replay():
            self.replays += 1
            place.copy_(work())

        return replay, place


@pytest.fixture
def tape(monkeypatch):
    tape = Tape(torch.zeros(2))
    monkeypatch.setattr(engine, "record", tape.record)
    return tape


def work(seen, objective, model, x, count):
    """Take a step that remembers what it was given."""
    seen.append((objective, x.sum().item(), count))
    return torch.stack([x.sum(), x.square().sum()])


# Batches of an epoch with a smaller last one, three epochs of it, and a weight that changes.
EPOCH = [4, 4, 4, 4, 4, 3]
OBJECTIVES = [*(vb.NegativeELBO(beta) for beta in (0.1, 0.2, 0.3)), *[vb.NegativeELBO()] * 15]


def test_every_batch_is_used_once_and_in_order(tape):
    torch.manual_seed(0)
    batches = [torch.rand(size) for size in EPOCH * 3]
    plain, recorded = [], []
    step = Recorded(partial(work, recorded))
    for objective, x in zip(OBJECTIVES, batches, strict=True):
        expected = work(plain, objective, None, x, len(x))
        assert step(objective, None, x, len(x)).equal(expected)
    assert recorded == plain
    assert tape.recordings == 1
    # Five of a kind come first in the second epoch: three that run as they are, and two replayed.
    assert tape.replays == (5 - WARM_UP) + 5


def test_what_changes_at_every_step_is_never_recorded(tape):
    step = Recorded(partial(work, []))
    for i in range(20):
        step(vb.NegativeELBO(i / 20), None, torch.ones(4), 4)
    assert tape.recordings == 0


def test_a_new_kind_that_stays_is_recorded_anew(tape):
    step, x = Recorded(partial(work, [])), torch.ones(4)
    for beta in (1.0, 2.0):
        for _ in range(10):
            step(vb.NegativeELBO(beta), None, x, 4)
    assert (tape.recordings, tape.replays) == (2, 2 * (10 - WARM_UP))


def test_a_recorded_fit_is_the_plain_one(monkeypatch):
    """On the CPU, with the tape in place of a graph: what `fit` does around a step."""

    def run():
        torch.manual_seed(0)
        model = vb.conv_vae((1, 16, 16), latent_dim=2, width=4)
        images = vb.load("digits", image_size=16).train[:210]
        options = dict(epochs=3, batch_size=20, device="cpu", precision="float32")
        history = vb.fit(model, images, **options, progress=False)
        return model.state_dict(), [row["loss"] for row in history.rows]

    plain, losses = run()
    monkeypatch.setattr("vaebook.training.can_record", lambda *given: True)
    tape = Tape(torch.zeros(3, dtype=torch.float64))
    monkeypatch.setattr(engine, "record", tape.record)
    recorded, recorded_losses = run()
    assert tape.replays > 20
    assert recorded_losses == pytest.approx(losses, rel=1e-4)
    for name, value in plain.items():
        torch.testing.assert_close(recorded[name], value, rtol=1e-3, atol=1e-3, msg=name)


# --- on a GPU ---------------------------------------------------------------------------------


def fit_on_gpu(precision, objective=vb.NegativeELBO(), **options):  # noqa: B008
    torch.manual_seed(0)
    model = vb.conv_vae((1, 28, 28), latent_dim=8)
    images = vb.load("digits").train
    history = vb.fit(
        model, images, epochs=1, batch_size=64, device="cuda", precision=precision,
        objective=objective, progress=False, **options,
    )  # fmt: skip
    return model, history


@needs_cuda
@pytest.mark.parametrize("objective", [vb.NegativeELBO(), vb.ImportanceWeighted(5)], ids=repr)
def test_the_graph_computes_what_the_plain_loop_does(objective, monkeypatch):
    _, recorded = fit_on_gpu("bfloat16", objective)
    monkeypatch.setattr("vaebook.training.can_record", lambda *given: False)
    _, plain = fit_on_gpu("bfloat16", objective)
    assert recorded.last("train")["loss"] == pytest.approx(plain.last("train")["loss"], rel=1e-4)


@needs_cuda
def test_bfloat16_and_a_graph_learn_what_float32_does():
    losses = [
        vb.evaluate(fit_on_gpu(precision)[0], vb.load("digits").test)["loss"]
        for precision in ("bfloat16", "float32")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


@needs_cuda
def test_a_rate_of_nought_reaches_the_graph():
    one_step = 1 / 24
    still, _ = fit_on_gpu("bfloat16", lr=lambda done: 1e-3 if done < one_step else 0.0)
    moving, _ = fit_on_gpu("bfloat16")
    torch.manual_seed(0)
    start = next(vb.conv_vae((1, 28, 28), latent_dim=8).parameters())
    moved = [(next(m.parameters()).cpu() - start).abs().max().item() for m in (still, moving)]
    assert 0 < moved[0] < 2e-3 < moved[1]
