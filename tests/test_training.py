import io
import sys
from functools import partial
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal, kl_divergence
from torch.utils.data import DataLoader, TensorDataset

import vaebook as vb

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


class Stopping:
    """An objective with a schedule that is interrupted at a given step."""

    def __init__(self, objective, step):
        self.objective, self.step = objective, step

    def at(self, done):
        self.step -= 1
        if self.step < 0:
            raise KeyboardInterrupt
        return self.objective.at(done)

    def __call__(self, model, x):
        return self.objective(model, x)


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


def test_in_float32_it_is_the_plain_loop_bit_for_bit():
    model, by_hand = new_model(), new_model()
    fit(model, TRAIN, epochs=2, seed=4)

    optimizer = torch.optim.Adam(by_hand.parameters(), lr=1e-3, fused=True)
    by_hand.train()
    x = pixels(TRAIN)
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
    for ours, theirs in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_a_falling_rate_goes_on_where_a_run_resumes(tmp_path):
    rate = {"lr": lambda done: 2e-3 * (1 - done) ** 2, "precision": "float32"}
    whole, halves = new_model(), new_model()
    fit(whole, TRAIN, epochs=2, **rate)
    stop = {"objective": Stopping(vb.NegativeELBO(), 5)}
    fit(halves, TRAIN, epochs=2, checkpoint=tmp_path / "c", **rate, **stop)
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
    "channels": X.expand(-1, 3, -1, -1),
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
        ("lr", 0.0),
        ("lr", -1e-3),
        ("lr", float("nan")),
        ("lr", lambda done: done),
        ("precision", "float16"),
        ("precision", "double"),
        ("device", "nowhere"),
        ("device", "cuda:99"),
        ("resume", True),
    ],
)
def test_arguments_that_do_not_fit_are_refused(argument, value):
    model = new_model()
    with pytest.raises(ValueError, match=f"^{argument}: expected .* got ") as error:
        fit(model, TRAIN, **{argument: value})
    assert "\n" not in str(error.value)
    assert_same_weights(model, new_model())


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
    for x in (X * 255, X.flatten(1), X.expand(-1, 3, -1, -1)):
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
    stop = Failing(2 * (4 + 1) + 2, interrupt)  # in epoch 3
    assert run(first, epochs=4, snapshots=5, checkpoint=path, objective=stop).interrupted
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
    stopped = fit(broken, TRAIN, epochs=3, objective=Stopping(objective, 9), checkpoint=path)
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
