import io
import re
import sys
import warnings
from contextlib import nullcontext
from functools import partial
from types import ModuleType

import jaxtyping
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal, kl_divergence
from torch.utils.data import DataLoader, TensorDataset

import vaebook as vb
from vaebook.speed.kernels import lent

DATA = vb.load("digits", image_size=16)
TRAIN, TEST = DATA.train[:200], DATA.test[:50]
LOSSES = ["loss", "reconstruction", "kl", "beta"]
COLUMNS = ["epoch", "split", *LOSSES, "seconds", "images_per_second"]

fit = partial(vb.fit, epochs=2, batch_size=50, device="cpu", precision="float32", progress=False)


def new_model(seed=0, **sizes):
    torch.manual_seed(seed)
    return vb.conv_vae((1, 16, 16), **({"latent_dim": 2, "width": 4} | sizes))


def pixels(images):
    return images.pixels.float() / 255


def assert_same_weights(model, other):
    theirs = other.state_dict()
    assert all(value.equal(theirs[name]) for name, value in model.state_dict().items())


def assert_same_losses(history, other):
    columns = ["epoch", "split", *LOSSES]
    assert history.frame[columns].equals(other.frame[columns])


class Failing:
    """The negative ELBO, but the given call of it does something else."""

    def __init__(self, call, failure):
        self.calls, self.call, self.failure = 0, call, failure

    def __call__(self, model, x):
        self.calls += 1
        terms = vb.NegativeELBO()(model, x)
        return self.failure(terms) if self.calls == self.call else terms


def stopping(step, rate=lambda done: 1e-3):
    """Return a learning rate that is interrupted when it is asked for a given step."""
    left = iter(range(step + 1))  # it is asked once before the first step

    def at(done):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return rate(done)

    return at


def interrupt(_):
    raise KeyboardInterrupt


def become_nan(terms):
    return terms._replace(loss=terms.loss * float("nan"))


# --- the numbers ------------------------------------------------------------------------------


def test_one_epoch_is_that_of_a_loop_written_out():
    model, by_hand = new_model(), new_model()
    history = fit(model, TRAIN, epochs=1, seed=4, lr=2e-3)

    optimizer = torch.optim.Adam(by_hand.parameters(), lr=2e-3)
    by_hand.train()
    torch.manual_seed(4 * 1_000_003 + 1)  # how a run seeds its first epoch
    x, total = pixels(TRAIN), torch.zeros(3)
    for rows in torch.randperm(200).split(50):
        mean, log_var = by_hand.encoder(x[rows])
        q = Normal(mean, (0.5 * log_var).exp())
        logits = by_hand.decoder(q.loc + q.scale * torch.randn(50, 2))
        reconstruction = F.binary_cross_entropy(logits.sigmoid(), x[rows], reduction="sum")
        kl = kl_divergence(q, Normal(torch.zeros(2), torch.ones(2))).sum()
        optimizer.zero_grad()
        ((reconstruction + kl) / 50).backward()
        optimizer.step()
        total += torch.stack([reconstruction + kl, reconstruction, kl]).detach() / 200
    row = history.last("train")
    expected = dict(zip(LOSSES, total.tolist(), strict=False))
    assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    # Not the encoder: a bias before batch norm has no gradient but the noise of rounding.
    decoders = model.decoder.parameters(), by_hand.decoder.parameters()
    for ours, theirs in zip(*decoders, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def dense_model():
    torch.manual_seed(0)
    return vb.dense_vae((1, 16, 16), latent_dim=2, hidden=(12,))


@pytest.mark.parametrize("build", [new_model, dense_model])
def test_in_float32_it_is_the_plain_loop_bit_for_bit(build):
    """By the layers' own forward where none is lent, else by those that `fit` lends."""
    model, by_hand = build(), build()
    fit(model, TRAIN, epochs=2, seed=4)

    optimizer = torch.optim.Adam(by_hand.parameters(), lr=1e-3, fused=True)
    by_hand.train()
    x = pixels(TRAIN)
    with lent(by_hand) if build is new_model else nullcontext():
        for epoch in (1, 2):
            torch.manual_seed(4 * 1_000_003 + epoch)
            for rows in torch.randperm(200).split(50):
                loss = vb.NegativeELBO()(by_hand, x[rows]).loss.mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    assert_same_weights(model, by_hand)


def test_a_rate_may_fall_with_the_steps_that_are_done():
    model, by_hand = new_model(), new_model()
    fit(model, TRAIN, epochs=2, seed=4, lr=lambda done: 2e-3 * (1 - done), precision="float32")
    optimizer = torch.optim.Adam(by_hand.parameters(), lr=2e-3)
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 8)
    by_hand.train()
    for epoch in (1, 2):
        torch.manual_seed(4 * 1_000_003 + epoch)
        for rows in torch.randperm(200).split(50):
            loss = vb.NegativeELBO()(by_hand, pixels(TRAIN)[rows]).loss.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            falling.step()
    for (name, ours), theirs in zip(model.named_parameters(), by_hand.parameters(), strict=True):
        if not re.match(r"encoder.body.\d+.bias", name):  # before batch norm: nothing but rounding
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4, msg=name)


def test_a_falling_rate_goes_on_where_a_run_resumes(tmp_path):
    rate = {"lr": lambda done: 2e-3 * (1 - done) ** 2, "precision": "float32"}
    whole, halves = new_model(), new_model()
    fit(whole, TRAIN, epochs=2, **rate)
    stopped = rate | {"lr": stopping(5, rate["lr"])}
    assert fit(halves, TRAIN, epochs=2, checkpoint=tmp_path / "c", **stopped).interrupted
    again = new_model()
    fit(again, TRAIN, epochs=2, checkpoint=tmp_path / "c", resume=True, **rate)
    assert_same_weights(whole, again)


def test_the_same_seed_repeats_a_run_bit_for_bit():
    models = [new_model(), new_model(), new_model()]
    runs = [fit(m, TRAIN, validation=TEST, seed=s) for m, s in zip(models, [7, 7, 8], strict=True)]
    assert_same_losses(runs[0], runs[1])
    assert_same_weights(models[0], models[1])
    assert runs[0].frame["loss"].ne(runs[2].frame["loss"]).all()


def test_the_callers_random_numbers_are_left_alone(tmp_path):
    model = new_model()
    before = torch.get_rng_state()
    fit(model, TRAIN, validation=TEST, snapshots=3, checkpoint=tmp_path / "run")
    vb.evaluate(model, TEST)
    fit(model, TRAIN, objective=Failing(2, interrupt))
    with pytest.raises(FloatingPointError):
        fit(model, TRAIN, objective=Failing(2, become_nan))
    assert torch.get_rng_state().equal(before)


def test_the_loss_falls_and_the_history_tells():
    model = new_model()
    history = fit(model, DATA.train, epochs=3, validation=DATA.test, batch_size=32)
    frame = history.frame
    assert list(frame.columns) == COLUMNS
    assert list(frame["epoch"]) == [1, 1, 2, 2, 3, 3]
    assert list(frame["split"]) == ["train", "validation"] * 3
    for _, rows in frame.groupby("split"):
        assert rows["loss"].is_monotonic_decreasing
    assert frame["loss"].iloc[-1] < frame["loss"].iloc[0] - 20
    np.testing.assert_allclose(frame["loss"], frame["reconstruction"] + frame["kl"], rtol=1e-6)
    assert (frame["beta"] == 1).all()
    images = [1500, 297] * 3
    np.testing.assert_allclose(frame["seconds"] * frame["images_per_second"], images)
    assert history.last() == history.rows[-1]
    assert history.last("train") == history.rows[-2]
    assert not history.interrupted
    assert not model.training
    assert history.provenance["device"].startswith("cpu")
    assert history.provenance["torch"] == torch.__version__
    assert repr(history).count("\n") == 6


def test_beta_weighs_the_kl():
    frame = fit(new_model(), TRAIN, objective=vb.NegativeELBO(4)).frame
    assert (frame["beta"] == 4).all()
    np.testing.assert_allclose(frame["loss"], frame["reconstruction"] + 4 * frame["kl"], rtol=1e-6)


# --- evaluate ---------------------------------------------------------------------------------


def test_a_schedule_is_followed_step_by_step_and_not_in_validation():
    seen = []

    def schedule(done):
        seen.append(done)
        return done**2

    history = fit(
        new_model(), TRAIN, validation=TEST, objective=vb.NegativeELBO(2, schedule=schedule)
    )
    assert seen == pytest.approx([step / 8 for step in range(8)])
    train = history.frame[history.frame["split"] == "train"]
    assert list(train["beta"]) == pytest.approx([2 * (3 / 8) ** 2, 2 * (7 / 8) ** 2])
    validation = history.frame[history.frame["split"] == "validation"]
    assert list(validation["beta"]) == [2, 2]
    expected = validation["reconstruction"] + 2 * validation["kl"]
    np.testing.assert_allclose(validation["loss"], expected, rtol=1e-6)


@torch.no_grad()
def test_evaluate_is_the_mean_over_images():
    model = new_model()
    row = vb.evaluate(model, TEST, seed=3)
    assert list(row) == COLUMNS
    assert model.training  # as it was

    model.eval()
    x = pixels(TEST)
    mean, log_var = model.encode(x)
    q = Normal(mean, (log_var / 2).exp())
    kl = kl_divergence(q, Normal(torch.zeros(2), torch.ones(2))).sum() / 50
    torch.manual_seed(3 * 1_000_003)
    logits = model.decode(mean + q.scale * torch.randn(50, 2))
    reconstruction = F.binary_cross_entropy(logits.sigmoid(), x, reduction="sum") / 50
    assert row["kl"] == pytest.approx(kl.item(), rel=1e-5)
    assert row["reconstruction"] == pytest.approx(reconstruction.item(), rel=1e-5)


def test_nats_per_image_do_not_depend_on_the_batch_size():
    model = new_model()
    fit(model, TRAIN)
    few, many = (vb.evaluate(model, DATA.test, batch_size=size) for size in (7, 500))
    assert few["kl"] == pytest.approx(many["kl"], rel=1e-5)
    for column in ("loss", "reconstruction"):  # other noise for the same images
        assert few[column] == pytest.approx(many[column], rel=0.02)
    losses = [fit(new_model(), TRAIN, batch_size=size).frame["loss"][0] for size in (20, 100)]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)


def test_validation_is_evaluate_after_the_epoch():
    model = new_model()
    row = fit(model, TRAIN, validation=TEST, seed=5).last()
    again = vb.evaluate(model, TEST, seed=5)
    assert [row[name] for name in LOSSES] == [again[name] for name in LOSSES]


# --- what can be trained on -------------------------------------------------------------------


def test_every_kind_of_images_is_the_same_to_train_on():
    x = pixels(TRAIN)
    runs = [
        fit(new_model(), images)
        for images in (TRAIN, x, x.numpy(), x.numpy()[:, 0], TRAIN.pixels, TRAIN.pixels.numpy())
    ]
    for run in runs[1:]:
        assert_same_losses(run, runs[0])


@pytest.mark.parametrize("labelled", [True, False])
def test_a_dataloader_gives_close_losses(labelled):
    x = pixels(TRAIN)
    dataset = TensorDataset(x, TRAIN.labels) if labelled else list(x)
    loader = DataLoader(dataset, batch_size=50)
    ours, theirs = (fit(new_model(), images, validation=images) for images in (TRAIN, loader))
    assert list(theirs.frame["split"]) == ["train", "validation"] * 2
    assert theirs.frame["images_per_second"].gt(0).all()
    np.testing.assert_allclose(ours.frame["loss"], theirs.frame["loss"], rtol=0.03)
    shuffled = DataLoader(dataset, batch_size=50, shuffle=True)
    assert_same_losses(fit(new_model(), shuffled), fit(new_model(), shuffled))


@pytest.mark.parametrize("count", [41, 21, 3, 2])
def test_no_batch_of_one_image_reaches_batch_norm(count):
    history = fit(new_model(), TRAIN[:count], batch_size=20, validation=TEST[0])
    assert np.isfinite(history.frame["loss"]).all()


def test_bfloat16_learns_alike_and_keeps_float32_weights():
    # In one long epoch: a step that saw old copies of the weights would go astray.
    losses = {}
    for precision in ("float32", "bfloat16"):
        model = new_model(width=8)
        history = fit(
            model, DATA.train, epochs=1, batch_size=15, precision=precision, validation=DATA.test
        )
        assert {weights.dtype for weights in model.parameters()} == {torch.float32}
        losses[precision] = history.last()["loss"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)
    assert losses["bfloat16"] != losses["float32"]


def test_the_precision_chosen_is_written_down():
    by_name = fit(new_model(), TRAIN, epochs=1, precision="bfloat16").provenance["precision"]
    chosen = fit(new_model(), TRAIN, epochs=1, precision="auto").provenance["precision"]
    native = torch.cpu.get_capabilities().get("avx512_bf16", False)
    assert by_name == "bfloat16"
    assert chosen == ("bfloat16" if native else "float32")


# --- bad input --------------------------------------------------------------------------------

X = pixels(TRAIN)[:4]
BAD_IMAGES = {
    "NaN": X.where(X < 0.5, float("nan")),
    "0 to 255": X * 255,
    "negative": X - 0.1,
    "infinite": X.where(X < 0.5, float("inf")),
    "size": X[..., :15],
    "channels": X.expand(-1, 2, -1, -1),
    "rank": X.flatten(1),
    "empty": X[:0],
    "text": np.array(["a", "b"]),
    "objects": np.array([None, None]),
    "integers": (X * 255).long(),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_images_that_do_not_fit_are_refused(kind):
    model, images = new_model(), BAD_IMAGES[kind]
    for name, use in [
        ("images", lambda: fit(model, images)),
        ("validation", lambda: fit(model, TRAIN, validation=images)),
        ("images", lambda: vb.evaluate(model, images)),
    ]:
        with pytest.raises(ValueError, match=f"^{name}: expected .* got ") as error:
            use()
        assert "\n" not in str(error.value)
    assert_same_weights(model, new_model())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("epochs", 0),
        ("epochs", -1),
        ("epochs", 1.5),
        ("epochs", "3"),
        ("batch_size", 0),
        ("batch_size", 2.0),
        ("lr", -1e-3),
        ("lr", float("nan")),
        ("lr", "1e-3"),
        ("lr", lambda done: -1.0),
        ("seed", "0"),
        ("seed", 0.5),
        ("clip", 0.0),
        ("clip", -1),
        ("clip", float("inf")),
        ("keep", "worst"),
        ("keep", "best"),
        ("optimizer", "sgd"),
        ("optimizer", lambda parameters: None),
        ("lr", lambda done: 1e-3 - 2e-3 * done),
        ("lr", lambda done: 1e-3 if done < 0.5 else None),
        ("objective", 3),
        ("callbacks", [3]),
        ("callbacks", [vb.EarlyStopping]),
        ("callbacks", print),
        ("validation", vb.EarlyStopping()),
        ("precision", "float16"),
        ("precision", "double"),
        ("device", "nowhere"),
        ("device", "cuda:99"),
        ("resume", True),
    ],
)
def test_arguments_that_do_not_fit_are_refused(argument, value):
    model, given = new_model(), {argument: value}
    if argument == "validation":
        given = {"callbacks": [value]}
    with pytest.raises(ValueError, match=f"^{argument}: expected .* got ") as error:
        fit(model, TRAIN, **given)
    assert "\n" not in str(error.value)
    if argument != "lr" or not callable(value):  # what is wrong later is met later
        assert_same_weights(model, new_model())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", ["none", "plain module", "double"])
def test_what_is_no_model_is_refused(kind):
    model = {"none": None, "plain module": torch.nn.Linear(2, 2), "double": new_model().double()}
    with pytest.raises(ValueError, match=r"^model: expected .* got ") as error:
        fit(model[kind], TRAIN)
    assert "\n" not in str(error.value)


def test_one_image_is_refused():
    with pytest.raises(
        ValueError, match=r"^images: expected at least 2 images to train on, got 1$"
    ):
        fit(new_model(), TRAIN[0])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("labels", [[1, 2, 3], [0.5] * 4, [[1], [2], [3], [4]], ["a"] * 4])
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(ValueError, match=r"^labels: expected ") as error:
        vb.as_images(X, labels)
    assert "\n" not in str(error.value)


def test_a_dataloader_of_other_images_is_refused():
    for x in (X * 255, X.flatten(1), X.expand(-1, 2, -1, -1)):
        with pytest.raises(ValueError, match=r"expected .* got ") as error:
            fit(new_model(), DataLoader(TensorDataset(x), batch_size=4))
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"^images: expected at least one batch, got none"):
        fit(new_model(), DataLoader(TensorDataset(X), batch_size=5, drop_last=True))


def test_evaluate_refuses_a_batch_size_of_none():
    with pytest.raises(ValueError, match=r"^batch_size: "):
        vb.evaluate(new_model(), TEST, batch_size=0)


def test_pick_device_prefers_cuda_then_mps(monkeypatch):
    assert vb.pick_device("cpu") == torch.device("cpu")
    for cuda, mps, expected in [(1, 1, "cuda"), (0, 1, "mps"), (0, 0, "cpu")]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: bool(cuda))
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: bool(mps))
        assert vb.pick_device() == torch.device(expected)


# --- the ends of a run ------------------------------------------------------------------------


def test_ctrl_c_returns_the_epochs_that_finished(capsys):
    model = new_model()
    history = fit(model, TRAIN, epochs=9, objective=Failing(4 + 2, interrupt), progress=True)
    assert history.interrupted
    assert list(history.frame["epoch"]) == [1]
    assert not model.training
    assert "interrupted" in repr(history)
    assert_same_losses(history, fit(new_model(), TRAIN, epochs=1))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "stopped by the keyboard" in lines[1]


def test_a_loss_that_is_not_finite_ends_the_run_and_spares_the_checkpoint(tmp_path):
    model, path = new_model(), tmp_path / "run"
    with pytest.raises(FloatingPointError, match=r"nan in epoch 2; a smaller lr"):
        fit(model, TRAIN, epochs=3, objective=Failing(6, become_nan), checkpoint=path)
    assert not model.training
    expected = new_model()
    fit(expected, TRAIN, epochs=1)
    assert_same_weights(vb.load_model(path), expected)


def test_a_learning_rate_far_too_large_is_noticed():
    with pytest.raises(FloatingPointError, match=r"a smaller lr than 1e"):
        fit(new_model(), TRAIN, epochs=20, lr=1e30)


def test_the_learning_rate_that_is_blamed_is_the_one_of_that_epoch():
    objective = Failing(6, become_nan)  # in the second epoch, of three
    with pytest.raises(FloatingPointError, match=r"a smaller lr than 0\.0005 may"):
        fit(new_model(), TRAIN, epochs=3, objective=objective, lr=lambda done: 1e-3 * (1 - done))


def test_a_resumed_run_is_as_if_it_had_never_stopped(tmp_path):
    whole, first, second = new_model(0), new_model(0), new_model(1)
    run = partial(fit, images=TRAIN, validation=TEST, seed=3)
    uninterrupted = run(whole, epochs=4, snapshots=5)
    path = tmp_path / "run"
    stop = stopping(2 * 4 + 2)  # in epoch 3
    assert run(first, epochs=4, snapshots=5, checkpoint=path, lr=stop).interrupted
    resumed = run(second, epochs=4, snapshots=5, checkpoint=path, resume=True)
    assert_same_weights(second, whole)
    assert_same_losses(resumed, uninterrupted)
    assert [step for step, _ in resumed.snapshots] == [0, 4, 8, 12, 16]
    for (_, ours), (_, theirs) in zip(resumed.snapshots, uninterrupted.snapshots, strict=True):
        assert ours.equal(theirs)
    # The checkpoint is a model file, and a finished run is not trained further.
    assert_same_weights(vb.load_model(path), whole)
    again = run(new_model(2), epochs=4, checkpoint=path, resume=True)
    assert again.rows == resumed.rows


def test_a_run_made_longer_is_the_long_run(tmp_path):
    path = tmp_path / "run"
    fit(new_model(0), TRAIN, epochs=1, snapshots=2, checkpoint=path)
    longer, whole = new_model(1), new_model(0)
    history = fit(longer, TRAIN, epochs=2, snapshots=3, checkpoint=path, resume=True)
    assert_same_losses(history, fit(whole, TRAIN, epochs=2))
    assert_same_weights(longer, whole)
    assert [step for step, _ in history.snapshots] == [0, 4, 8]


def test_a_schedule_goes_on_where_a_run_was_broken_off(tmp_path):
    objective = vb.NegativeELBO(schedule=vb.Warmup(start=0.2, end=0.9))
    whole, broken = new_model(0), new_model(0)
    history = fit(whole, TRAIN, epochs=3, objective=objective)
    path = tmp_path / "run"
    stopped = fit(broken, TRAIN, epochs=3, objective=objective, lr=stopping(9), checkpoint=path)
    assert stopped.interrupted
    resumed = fit(new_model(1), TRAIN, epochs=3, objective=objective, checkpoint=path, resume=True)
    assert_same_losses(resumed, history)


def test_resume_without_a_checkpoint_starts_anew(tmp_path):
    history = fit(new_model(), TRAIN, checkpoint=tmp_path / "new", resume=True)
    assert_same_losses(history, fit(new_model(), TRAIN))


def test_resume_refuses_what_it_cannot_go_on_from(tmp_path):
    path = tmp_path / "run"
    fit(new_model(), TRAIN, epochs=1, checkpoint=path)
    for other in (new_model(latent_dim=3), new_model(width=2), vb.dense_vae((1, 16, 16), 2)):
        with pytest.raises(ValueError, match=r"^checkpoint: expected "):
            fit(other, TRAIN, checkpoint=path, resume=True)
    vb.save(new_model(), path)
    with pytest.raises(ValueError, match=r"^checkpoint: expected .* the weights alone"):
        fit(new_model(), TRAIN, checkpoint=path, resume=True)
    path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"damaged"):
        fit(new_model(), TRAIN, checkpoint=path, resume=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 4),
        ("batch_size", 40),
        ("objective", vb.NegativeELBO(2)),
        ("objective", vb.NegativeELBO(schedule=vb.Warmup(0.5))),
        ("objective", Failing(99, interrupt)),
        ("optimizer", "muon"),
        ("optimizer", torch.optim.SGD),
        ("clip", 1.0),
        ("images", DATA.train[:199]),
        ("images", DATA.train[1:201]),
    ],
)
def test_resume_refuses_another_training(name, value, tmp_path):
    path = tmp_path / "run"
    fit(new_model(), TRAIN, epochs=1, checkpoint=path)
    before = path.read_bytes()
    given = {"images": TRAIN, "checkpoint": path, "resume": True} | {name: value}
    model = new_model(1)
    with pytest.raises(ValueError, match=f"^{name}: expected .* with which the run in .* began"):
        fit(model, **given)
    assert_same_weights(model, new_model(1))
    assert path.read_bytes() == before


def test_a_run_may_go_on_with_another_rate_longer_and_validated(tmp_path):
    path = tmp_path / "run"
    fit(new_model(), TRAIN, epochs=1, checkpoint=path, objective=vb.NegativeELBO(schedule=abs))
    given = {"objective": vb.NegativeELBO(schedule=abs), "lr": 1e-4, "validation": TEST}
    history = fit(new_model(), TRAIN, epochs=3, checkpoint=path, resume=True, **given)
    assert list(history.frame["split"]) == ["train", *["train", "validation"] * 2]


def test_functions_of_ones_own_are_told_apart_and_known_again(tmp_path):
    def first(model, x):
        return vb.NegativeELBO()(model, x)

    def second(model, x):
        return vb.NegativeELBO()(model, x)

    path = tmp_path / "run"
    fit(new_model(), TRAIN, epochs=1, checkpoint=path, objective=first)
    fit(new_model(), TRAIN, epochs=2, checkpoint=path, objective=first, resume=True)
    with pytest.raises(ValueError, match=r"^objective: .*first.*got .*second"):
        fit(new_model(), TRAIN, epochs=2, checkpoint=path, objective=second, resume=True)


# --- what users bring along ---------------------------------------------------------------------


def by_hand(model, optimizer, epochs=2, clip=None, after=lambda: None):
    """Train a model by a loop written out, with the numbers that `fit` draws from seed 0."""
    model.train()
    for epoch in range(1, epochs + 1):
        torch.manual_seed(epoch)
        for rows in torch.randperm(200).split(50):
            optimizer.zero_grad()
            vb.NegativeELBO()(model, pixels(TRAIN)[rows]).loss.mean().backward()
            if clip is not None:
                norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
                for p in model.parameters():
                    p.grad *= min(1, clip / (norm + 1e-6))
            optimizer.step()
        after()


MAKERS = {
    "AdamW": lambda p: torch.optim.AdamW(p, lr=3e-3, weight_decay=0.1),
    "SGD": lambda p: torch.optim.SGD(p, lr=1e-4, momentum=0.9),
    "plain SGD": lambda p: torch.optim.SGD(p, lr=1e-4),
    "Adagrad": torch.optim.Adagrad,
}


@pytest.mark.parametrize("name", MAKERS)
def test_an_optimizer_of_ones_own(name):
    ours, theirs = dense_model(), dense_model()
    fit(ours, TRAIN, optimizer=MAKERS[name])
    by_hand(theirs, MAKERS[name](theirs.parameters()))
    assert_same_weights(ours, theirs)


@pytest.mark.parametrize("name", MAKERS)
def test_an_optimizer_of_ones_own_goes_on_where_it_stopped(name, tmp_path):
    whole, again = dense_model(), dense_model()
    fit(whole, TRAIN, epochs=3, optimizer=MAKERS[name])
    fit(dense_model(), TRAIN, epochs=1, optimizer=MAKERS[name], checkpoint=tmp_path / "c")
    fit(again, TRAIN, epochs=3, optimizer=MAKERS[name], checkpoint=tmp_path / "c", resume=True)
    assert_same_weights(whole, again)


def test_a_rate_that_is_given_is_that_of_ones_own_optimizer():
    ours, theirs = dense_model(), dense_model()
    fit(ours, TRAIN, optimizer=torch.optim.RMSprop, lr=2e-4)
    by_hand(theirs, torch.optim.RMSprop(theirs.parameters(), lr=2e-4))
    assert_same_weights(ours, theirs)


def test_a_scheduler_of_ones_own_is_stepped_in_a_callback_and_resumed(tmp_path):
    def run(epochs, **options):
        model, made = dense_model(), []

        def optimizer(parameters):
            made.append(torch.optim.SGD(parameters, lr=1e-4))
            return made[0]

        def halve(model, rows):
            made[0].param_groups[0]["lr"] /= 2

        fit(model, TRAIN, epochs=epochs, optimizer=optimizer, callbacks=[halve], **options)
        return model, made[0]

    ours, optimizer = run(3)
    theirs = dense_model()
    plain = torch.optim.SGD(theirs.parameters(), lr=1e-4)
    halved = torch.optim.lr_scheduler.ExponentialLR(plain, 0.5)
    by_hand(theirs, plain, epochs=3, after=halved.step)
    assert_same_weights(ours, theirs)
    assert optimizer.param_groups[0]["lr"] == 1e-4 / 8


def test_the_rate_of_ones_own_optimizer_is_kept_with_it(tmp_path):
    made = []

    def optimizer(parameters):
        made.append(torch.optim.SGD(parameters, lr=1e-4))
        return made[-1]

    def halve(model, rows):
        made[-1].param_groups[0]["lr"] /= 2

    class Halve(vb.Listener):
        def on_step(self, run):
            halve(None, None)

    options = {"optimizer": optimizer, "callbacks": [Halve()], "checkpoint": tmp_path / "c"}
    fit(dense_model(), TRAIN, epochs=1, **options)
    fit(dense_model(), TRAIN, epochs=2, resume=True, **options)
    assert made[1].param_groups[0]["lr"] == 1e-4 / 2**8


@pytest.mark.parametrize("clip", [1e-2, 1e6])
def test_the_norm_of_all_gradients_together_is_clipped(clip):
    ours, theirs = dense_model(), dense_model()
    fit(ours, TRAIN, clip=clip, optimizer=lambda p: torch.optim.SGD(p, lr=1e-3), epochs=1)
    by_hand(theirs, torch.optim.SGD(theirs.parameters(), lr=1e-3), epochs=1, clip=clip)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_rate_may_start_at_nought(optimizer):
    model, start = dense_model(), dense_model()
    fit(model, TRAIN, epochs=1, lr=lambda done: 0.0, optimizer=optimizer)
    assert_same_weights(model, start)
    fit(model, TRAIN, epochs=1, lr=lambda done: 1e-3 * done, optimizer=optimizer)
    assert not model.decoder[0].weight.equal(start.decoder[0].weight)


def test_a_true_answer_ends_a_training():
    seen = []

    def callback(model, rows):
        assert not model.training or model.encoder.training
        seen.append([(row["epoch"], row["split"]) for row in rows])
        return len(seen) == 2

    history = fit(new_model(), TRAIN, epochs=9, validation=TEST, callbacks=[callback])
    assert seen == [[(epoch, "train"), (epoch, "validation")] for epoch in (1, 2)]
    assert not history.interrupted
    assert_same_losses(history, fit(new_model(), TRAIN, epochs=2, validation=TEST))


def test_all_callbacks_are_called_also_after_one_that_ends_the_training():
    calls = []
    fit(
        new_model(), TRAIN, epochs=3,
        callbacks=[lambda *given: calls.append(1) or True, lambda *given: calls.append(2)],
    )  # fmt: skip
    assert calls == [1, 2]


def test_a_callback_that_raises_leaves_the_finished_epoch_and_the_history(tmp_path):
    def fail(model, rows):
        if rows[0]["epoch"] == 2:
            raise RuntimeError("no disk for my picture")

    model, path = new_model(), tmp_path / "run"
    with pytest.raises(RuntimeError, match="no disk") as error:
        fit(model, TRAIN, epochs=3, checkpoint=path, callbacks=[fail])
    assert not model.training
    assert [row["epoch"] for row in error.value.history.rows] == [1, 2]
    history = fit(new_model(1), TRAIN, epochs=3, checkpoint=path, resume=True)
    assert_same_losses(history, fit(new_model(), TRAIN, epochs=3))


def test_all_listeners_hear_the_end_also_when_one_fails():
    class Fails(vb.Listener):
        def on_end(self, run):
            raise OSError("no disk")

    model, stop, states = new_model(), vb.EarlyStopping(), []
    options = {"validation": TEST, "objective": Losses(1, 2)}

    def keep(model, rows):
        states.append({k: v.clone() for k, v in model.state_dict().items()})

    with pytest.raises(OSError, match="no disk") as error:
        fit(model, TRAIN, callbacks=[Fails(), stop, keep], **options)
    assert len(error.value.history.rows) > 1
    assert all(value.equal(states[0][name]) for name, value in model.state_dict().items())


def test_a_training_is_not_erased_by_a_forgotten_word(tmp_path):
    path = tmp_path / "c"
    fit(new_model(), TRAIN, epochs=2, checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"^checkpoint: expected a new file, or resume=True"):
        fit(new_model(), TRAIN, epochs=1, checkpoint=path)
    assert path.read_bytes() == before


def test_a_folder_is_no_checkpoint_and_the_best_epoch_needs_one(tmp_path):
    with pytest.raises(ValueError, match=r"^checkpoint: expected a file, got the folder"):
        fit(new_model(), TRAIN, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=r"^keep: expected a checkpoint, too, got"):
        fit(new_model(), TRAIN, validation=TEST, keep="best")


class Losses:
    """A validation whose losses are what one wants: the reconstruction is replaced."""

    def __init__(self, *losses):
        self.losses = iter(losses)

    def __call__(self, model, x):
        terms = vb.NegativeELBO()(model, x)
        if model.training:
            return terms
        return terms._replace(loss=torch.full_like(terms.loss, next(self.losses)))


@pytest.mark.parametrize(
    ("losses", "patience", "least", "best", "epochs"),
    [
        ((5, 4, 3, 2, 1, 0), 2, 0, 6, 6),
        ((5, 3, 4, 4, 1, 0), 2, 0, 2, 4),
        ((5, 3, 4, 2, 4, 4), 2, 0, 4, 6),
        ((5, 4.5, 4.2, 0, 0, 0), 2, 1, 1, 3),
        ((5, 6, 0, 0, 0, 0), 1, 0, 1, 2),
    ],
)
def test_early_stopping(losses, patience, least, best, epochs):
    states = {}

    def keep(model, rows):
        states[rows[0]["epoch"]] = {k: v.clone() for k, v in model.state_dict().items()}

    model, stop = new_model(), vb.EarlyStopping(patience, least)
    options = {"objective": Losses(*losses), "callbacks": [stop, keep], "validation": TEST}
    history = fit(model, TRAIN, epochs=6, **options)
    assert history.last()["epoch"] == epochs
    assert all(value.equal(states[best][name]) for name, value in model.state_dict().items())


def test_early_stopping_counts_on_where_a_run_goes_on(tmp_path):
    options = {"validation": TEST, "checkpoint": tmp_path / "c"}
    stop = vb.EarlyStopping(patience=2)
    fit(new_model(), TRAIN, epochs=3, objective=Losses(1, 2, 3), callbacks=[stop], **options)
    options |= {"resume": True, "callbacks": [vb.EarlyStopping(patience=3)]}
    history = fit(new_model(), TRAIN, epochs=9, objective=Losses(4, 5), **options)
    assert history.last()["epoch"] == 4
    assert fit(new_model(), TRAIN, epochs=9, objective=Losses(), **options).rows == history.rows


def test_the_best_epoch_can_be_kept_instead_of_the_last(tmp_path):
    for keep, expected in (("best", 2), ("last", 4)):
        path = tmp_path / keep
        losses = Losses(4, 2, 3, 2.5)
        options = {"checkpoint": path, "keep": keep, "validation": TEST, "objective": losses}
        fit(new_model(), TRAIN, epochs=4, **options)
        model = new_model()
        fit(model, TRAIN, epochs=expected)
        assert_same_weights(vb.load_model(path), model)


def test_a_listener_hears_all():
    class Ear(vb.Listener):
        def __init__(self):
            self.heard = []

        def on_start(self, run):
            self.heard.append(("start", run.step))

        def on_step(self, run):
            self.heard.append(("step", run.step))

        def on_epoch(self, run):
            self.heard.append(("epoch", run.epoch, len(run.rows)))

        def on_end(self, run):
            self.heard.append(("end", len(run.history.rows)))

    ear = Ear()
    fit(new_model(), TRAIN, epochs=2, batch_size=100, callbacks=[ear])
    first, second = [("step", 1), ("step", 2)], [("step", 3), ("step", 4)]
    assert ear.heard == [
        ("start", 0), *first, ("epoch", 1, 1), *second, ("epoch", 2, 1), ("end", 2),
    ]  # fmt: skip


# --- where it runs ------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_autocast_outside_changes_nothing(precision):
    """It keeps copies of weights until it is left, which a training must not go by."""
    runs = []
    for outside in (nullcontext(), torch.autocast("cpu", torch.bfloat16)):
        model = dense_model()
        with outside:
            vb.evaluate(model, TEST)
            history = fit(model, TRAIN, validation=TEST, epochs=3, precision=precision)
        runs.append((model, history))
    (plain, expected), (model, history) = runs
    assert_same_losses(history, expected)
    assert_same_weights(model, plain)


def test_anomaly_detection_around_a_training():
    with warnings.catch_warnings(action="ignore"), torch.autograd.detect_anomaly():
        history = fit(new_model(), TRAIN, epochs=1)
    assert_same_losses(history, fit(new_model(), TRAIN, epochs=1))


def test_a_run_on_the_cpu_seeds_nothing_but_the_cpu(monkeypatch):
    def fail(*_):
        raise AssertionError("another device was seeded")

    model = new_model()
    for module in (torch.cuda, torch.mps):
        monkeypatch.setattr(module, "manual_seed", fail)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", fail)
    monkeypatch.setattr(torch.random, "manual_seed", fail)
    monkeypatch.setattr(torch, "manual_seed", fail)
    fit(model, TRAIN, epochs=1, validation=TEST, snapshots=2)


def test_snapshots_of_a_model_with_noise_below_its_codes_leave_the_training_alone():
    def run(**options):
        torch.manual_seed(0)
        model = vb.ladder_vae((1, 16, 16), (4, 2), hidden=(8, 8))
        fit(model, TRAIN, validation=TEST, **options)
        return model

    assert_same_weights(run(), run(snapshots=5))


def test_a_conditional_model_is_trained_watched_and_kept_like_any_other(tmp_path):
    torch.manual_seed(0)
    model = vb.conditional_vae((1, 16, 16), latent_dim=2, classes=10, hidden=(9,))
    options = {"validation": TEST, "snapshots": 2, "checkpoint": tmp_path / "c"}
    history = fit(model, TRAIN, callbacks=[vb.EarlyStopping()], **options)
    assert len(history.snapshots) == len(history.posteriors) == 2
    assert_same_weights(vb.load_model(tmp_path / "c"), model)


def test_numpy_numbers_and_paths_are_as_good_as_pythons(tmp_path):
    sizes = {"epochs": np.int64(2), "batch_size": np.int32(50), "seed": np.int64(3)}
    options = {"lr": np.float64(1e-3), "checkpoint": str(tmp_path / "c")}
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        options |= {"device": "cpu", "precision": "float32", "progress": False}
        history = vb.fit(new_model(), TRAIN, **sizes, **options)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    assert_same_losses(history, fit(new_model(), TRAIN, seed=3, lr=1e-3))


# --- what is seen of it -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "steps"),
    [(0, []), (1, [0]), (2, [0, 8]), (5, [0, 2, 4, 6, 8]), (9, list(range(9)))],
)
def test_snapshots_are_spread_evenly(count, steps):
    model, untrained = new_model(), new_model()
    history = fit(model, TRAIN, snapshots=count)
    assert [step for step, _ in history.snapshots] == steps
    for _, picture in history.snapshots:
        assert picture.shape == (64, 1, 16, 16)
        assert picture.min() >= 0
        assert picture.max() <= 1
    assert_same_losses(history, fit(new_model(), TRAIN))  # looking changes nothing
    if steps:
        decode = partial(vb.decode, z=vb.sample_prior(model))
        torch.testing.assert_close(history.snapshots[0][1], decode(untrained))
    if len(steps) > 1:
        torch.testing.assert_close(history.snapshots[-1][1], decode(model))


def test_posteriors_are_those_of_the_first_validation_images(tmp_path):
    model, untrained = new_model(), new_model()
    path = tmp_path / "run"
    history = fit(model, TRAIN, validation=DATA.test, snapshots=3, checkpoint=path)
    assert [step for step, *_ in history.posteriors] == [0, 4, 8]
    for (_, mean, std), judged in (
        (history.posteriors[0], untrained),
        (history.posteriors[2], model),
    ):
        assert mean.shape == (128, 2)
        expected = vb.posterior(judged, DATA.test[:128])
        torch.testing.assert_close((mean, std), expected, rtol=1e-5, atol=1e-5)
    again = fit(new_model(), TRAIN, validation=DATA.test, checkpoint=path, resume=True)
    for (_, *ours), (_, *theirs) in zip(again.posteriors, history.posteriors, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert fit(new_model(), TRAIN, snapshots=2).posteriors == []


def test_progress_is_lines_where_there_is_no_terminal(capsys):
    history = fit(new_model(), TRAIN, validation=TEST, progress=True)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert len(lines) == 4
    for line, row in zip(lines, history.rows, strict=True):
        assert f"{row['epoch']} {row['split']}" in line
        assert f"{row['loss']:.2f} nats per image" in line


def test_a_resumed_run_says_where_it_goes_on(capsys, tmp_path):
    for epochs, told in (
        (2, ""),
        (3, "resumed after epoch 2 of 3\n"),
        (3, "resumed after epoch 3 of 3\n"),
    ):
        capsys.readouterr()
        vb.fit(new_model(), TRAIN, epochs=epochs, checkpoint=tmp_path / "c", resume=True)
        assert capsys.readouterr().out.startswith(told)


def test_no_progress_is_silence(capsys):
    fit(new_model(), TRAIN, validation=TEST, snapshots=2)
    vb.evaluate(new_model(), TEST)
    assert capsys.readouterr() == ("", "")


def test_progress_is_a_bar_on_a_terminal(capsys, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    fit(new_model(), TRAIN, progress=True)
    assert "8/8" in terminal.getvalue()
    assert capsys.readouterr().out.count("nats per image") == 2


def test_progress_in_jupyter_is_one_display_that_ends_as_lines(capsys, monkeypatch):
    shown = []

    class ZMQInteractiveShell:
        pass

    class Handle:
        def update(self, content, **_):
            shown.append(content["text/plain"])

    jupyter, display = ModuleType("IPython"), ModuleType("IPython.display")
    jupyter.get_ipython = ZMQInteractiveShell
    display.display = lambda *_, **__: Handle()
    monkeypatch.setitem(sys.modules, "IPython", jupyter)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    fit(new_model(), TRAIN, progress=True)
    assert any("%|" in text for text in shown)
    assert len(shown[-1].splitlines()) == 2
    assert "%|" not in shown[-1]
    assert capsys.readouterr() == ("", "")
