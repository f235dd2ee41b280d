"""Muon's steps against a singular value decomposition, and states that go on where they stopped."""

from functools import partial

import pytest
import torch

import vaebook as vb

DATA = vb.load("digits", image_size=16)
TRAIN = DATA.train[:200]

fit = partial(
    vb.fit, images=TRAIN, batch_size=50, device="cpu", precision="float32", optimizer="muon",
    progress=False,
)  # fmt: skip


def new_model(seed=0):
    torch.manual_seed(seed)
    return vb.dense_vae((1, 16, 16), latent_dim=3, hidden=(20, 10), activation="tanh")


def test_the_first_step_of_muon_is_as_long_in_all_directions_of_the_gradient():
    model, lr = new_model(), 1e-3
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    fit(model, epochs=1, batch_size=200, lr=lr)
    for name, value in model.named_parameters():
        step = (before[name] - value).detach()
        if value.ndim == 2:
            u, strength, v = torch.linalg.svd(value.grad, full_matrices=False)
            seen = strength > 0.02 * strength.norm()  # Newton and Schulz's iteration is in bfloat16
            assert seen.sum() > 1, name
            length = lr * max(1, len(value) / value.shape[1]) ** 0.5
            turned = (u.T @ step @ v.T / length)[seen][:, seen]
            assert ((turned.diag() - 0.95).abs() < 0.35).all(), name
            assert (turned - turned.diag().diag()).abs().max() < 0.1, name
        else:  # Adam's first step is as long wherever there is a gradient
            moved = step[value.grad.abs() > 1e-5].abs()
            torch.testing.assert_close(moved, torch.full_like(moved, lr), rtol=0.01, atol=0)


def test_a_convolution_is_left_to_adam():
    torch.manual_seed(0)
    model = vb.conv_vae((1, 16, 16), latent_dim=2, width=4)
    before = model.encoder.body[0].weight.detach().clone()
    fit(model, epochs=1, batch_size=200, lr=1e-3)
    moved = (model.encoder.body[0].weight.detach() - before).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, 1e-3), rtol=0.01, atol=0)


def test_a_resumed_run_with_muon_is_as_if_it_had_never_stopped(tmp_path):
    falling = partial(fit, epochs=4, lr=lambda done: 1e-2 * (1 - done))
    model, whole = new_model(), new_model()
    expected = falling(whole)

    def stop(done):
        if done >= 0.6:
            raise KeyboardInterrupt
        return 1e-2 * (1 - done)

    stopped = falling(model, lr=stop, checkpoint=tmp_path / "c")
    assert stopped.interrupted
    assert stopped.last("train")["epoch"] == 2
    again = new_model(1)
    resumed = falling(again, checkpoint=tmp_path / "c", resume=True)
    losses = [history.frame.loss.tolist() for history in (resumed, expected)]
    assert losses[0] == losses[1]
    theirs = whole.state_dict()
    assert all(value.equal(theirs[name]) for name, value in again.state_dict().items())


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        ("adam", "muon", "'adam', with which the run in .* began, got muon"),
        ("muon", "adam", "'muon', with which the run in .* began, got adam"),
    ],
)
def test_the_state_of_another_optimizer_is_refused(first, then, message, tmp_path):
    fit(new_model(), epochs=1, optimizer=first, checkpoint=tmp_path / "c")
    model = new_model(1)
    before = model.decoder[0].weight.detach().clone()
    with pytest.raises(ValueError, match=f"^optimizer: expected {message}"):
        fit(model, epochs=2, optimizer=then, checkpoint=tmp_path / "c", resume=True)
    assert model.decoder[0].weight.equal(before)


def test_an_unknown_optimizer_is_named():
    with pytest.raises(ValueError, match="optimizer: expected one of adam, muon, got 'sgd'"):
        fit(new_model(), epochs=1, optimizer="sgd")
