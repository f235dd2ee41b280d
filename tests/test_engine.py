"""The recorded step, against the plain one."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vaebook as vb
from vaebook import engine, training
from vaebook.engine import WARM_UP, Recorded, Tape, can_record
from vaebook.likelihoods import DiscretizedLogistic, Gaussian

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")


class Repeats:
    """In place of a recording: the work itself, Python and all, counted and into one place."""

    def __init__(self):
        self.recordings, self.replays = 0, 0

    def record(self, work, x):
        self.recordings += 1
        place = work().clone()

        def replay():
            self.replays += 1
            place.copy_(work())

        return replay, place


@pytest.fixture
def repeats(monkeypatch):
    repeats = Repeats()
    monkeypatch.setattr(engine, "record", repeats.record)
    return repeats


def work(seen, objective, model, x, count):
    """Take a step that remembers what it was given."""
    seen.append((objective, x.sum().item(), count))
    return torch.stack([x.sum(), x.square().sum()])


# Batches of an epoch with a smaller last one, three epochs of it, and a weight that changes.
EPOCH = [4, 4, 4, 4, 4, 3]
OBJECTIVES = [*(vb.NegativeELBO(beta) for beta in (0.1, 0.2, 0.3)), *[vb.NegativeELBO()] * 15]


def test_every_batch_is_used_once_and_in_order(repeats):
    torch.manual_seed(0)
    batches = [torch.rand(size) for size in EPOCH * 3]
    plain, recorded = [], []
    step = Recorded(partial(work, recorded))
    for objective, x in zip(OBJECTIVES, batches, strict=True):
        expected = work(plain, objective, None, x, len(x))
        assert step(objective, None, x, len(x)).equal(expected)
    assert recorded == plain
    assert repeats.recordings == 1
    # Five of a kind come first in the second epoch: three that run as they are, one recorded.
    assert repeats.replays == (5 - WARM_UP - 1) + 5


def test_what_changes_at_every_step_is_never_recorded(repeats):
    step = Recorded(partial(work, []))
    for i in range(20):
        step(vb.NegativeELBO(i / 20), None, torch.ones(4), 4)
    assert repeats.recordings == 0


def test_a_new_kind_that_stays_is_recorded_anew(repeats):
    step, x = Recorded(partial(work, [])), torch.ones(4)
    for beta in (1.0, 2.0):
        for _ in range(10):
            step(vb.NegativeELBO(beta), None, x, 4)
    assert (repeats.recordings, repeats.replays) == (2, 2 * (10 - WARM_UP - 1))


# --- on a CPU ---------------------------------------------------------------------------------

DIGITS = vb.load("digits", image_size=16)
CPU = torch.device("cpu")


def dense(likelihood="bernoulli", activation="relu"):
    torch.manual_seed(0)
    options = dict(hidden=(12, 7), likelihood=likelihood, activation=activation)
    return vb.dense_vae((1, 16, 16), latent_dim=3, **options)


def pooled():
    """A model with an operation that has two results, the maxima and where they are."""
    torch.manual_seed(0)
    down = [dict(kind="pool"), dict(kind="dense", size=9, activation="gelu")]
    up = [dict(kind="dense", size=256), dict(kind="reshape", shape=[1, 16, 16])]
    return vb.layered_vae((1, 16, 16), 3, encoder=down, decoder=up)


def conv():
    torch.manual_seed(0)
    return vb.conv_vae((1, 16, 16), latent_dim=2, width=4, residual=1)


MODELS = [
    dense, pooled, conv, *(partial(dense, activation=name) for name in ("softplus", "leaky_relu")),
    *(partial(dense, name) for name in ("continuous_bernoulli", "gaussian")),
    lambda: dense(Gaussian("optimal")), lambda: dense(DiscretizedLogistic()),
]  # fmt: skip


@pytest.mark.parametrize("build", MODELS)
def test_a_recorded_fit_is_the_plain_one_bit_for_bit(build, monkeypatch, recordings):
    """With all that may change in the course of a training."""

    def run():
        model = build()
        history = vb.fit(
            model, DIGITS.train[:430], validation=DIGITS.test[:50], epochs=4, batch_size=40,
            lr=lambda done: 1e-3 * (1.1 - done), precision="bfloat16", device="cpu", snapshots=3,
            objective=vb.NegativeELBO(0.7, schedule=vb.Warmup(0.3), free_bits=0.01), progress=False,
        )  # fmt: skip
        rows = [[row[k] for k in ("loss", "reconstruction", "kl")] for row in history.rows]
        return [*model.state_dict().values(), *(z for _, z in history.snapshots)], rows

    recorded, recorded_rows = run()
    assert recordings.count > 0
    monkeypatch.setattr(training, "can_record", lambda *given: False)
    plain, rows = run()
    assert recorded_rows == rows
    assert all(map(torch.equal, recorded, plain))


@pytest.fixture
def recordings(monkeypatch):
    class Counted(Tape):
        count = 0

        def __enter__(self):
            Counted.count += 1
            return super().__enter__()

    monkeypatch.setattr(engine, "Tape", Counted)
    return Counted


def test_the_memory_of_a_tape_does_not_grow():
    """A replay leaves its results where the first ones are."""
    x = torch.rand(5, 4)
    with Tape() as tape:
        y = (x @ x.T).softmax(0).sum(1)
    calls, place = len(tape.calls), y.data_ptr()
    x.copy_(torch.rand(5, 4))
    tape.replay()
    assert (len(tape.calls), y.data_ptr()) == (calls, place)
    torch.testing.assert_close(y, (x @ x.T).softmax(0).sum(1), rtol=0, atol=0)


WORK = {
    "views": lambda x: x.T.reshape(-1)[1:].unflatten(0, (1, -1)).expand(3, -1) * 2,
    "in place": lambda x: x.clone().mul_(3).T.add_(1),
    "an in-place change of a view": lambda x: (x * 2).index_fill_(0, torch.tensor([1]), 7.0) + x,
    "two results": lambda x: x.max(dim=1).values + x.max(dim=1).indices,
    "no form that writes into memory": lambda x: torch.nn.functional.pad(x, (1, 1)).roll(1, 0),
    "precisions": lambda x: x.bfloat16().double().sum(0, dtype=torch.float64),
    "new tensors": lambda x: torch.zeros_like(x) + torch.ones(4) + x.new_full((5, 1), 2.0),
    "random numbers": lambda x: x + torch.randn_like(x) + torch.rand(5, 4),
    "gradients": lambda x: torch.func.grad(lambda x: x.square().sum())(x),
    "memory of another order": lambda x: x.T.clone(memory_format=torch.preserve_format).exp(),
}


@pytest.mark.parametrize("name", WORK)
@given(seed=st.integers(0, 1000))
def test_a_tape_repeats_what_was_done(name, seed):
    x, later = torch.rand(5, 4), torch.rand(5, 4, generator=torch.Generator().manual_seed(seed))
    with Tape() as tape:
        result = WORK[name](x)
    x.copy_(later)
    torch.manual_seed(seed)
    tape.replay()
    torch.manual_seed(seed)
    assert result.equal(WORK[name](later))


def test_a_tape_refuses_what_it_cannot_repeat():
    refusal = pytest.raises(TypeError, match="expected operations that a tape can repeat, got aten")
    with refusal, Tape():
        torch.rand(3).sum().item()


def test_only_steps_that_stay_the_same_are_recorded():
    half, single = torch.bfloat16, torch.float32
    elbo, images = vb.NegativeELBO(), DIGITS.train
    hooked, watched, own, assembled = dense(), dense(), dense(), dense()
    hooked.decoder[0].register_forward_hook(lambda *given: None)
    watched.decoder[0].weight.register_hook(lambda gradient: None)
    own.decoder[1] = type("Own", (torch.nn.ReLU,), {})()
    assembled.config = None
    conditional = vb.conditional_vae((1, 16, 16), latent_dim=2, classes=10)
    cases = {
        "dense": (dense(), images, 128, elbo, "adam", CPU, half),
        "dense, float32": (dense(), images, 128, elbo, "adam", CPU, single),
        "dense, Muon": (dense(), images, 128, elbo, "muon", CPU, half),
        "dense, many draws": (dense(), images, 128, vb.ImportanceWeighted(), "adam", CPU, half),
        "dense, a function": (dense(), images, 128, repr, "adam", CPU, half),
        "dense, a DataLoader": (dense(), [], 128, elbo, "adam", CPU, half),
        "a hook": (hooked, images, 128, elbo, "adam", CPU, half),
        "a gradient's hook": (watched, images, 128, elbo, "adam", CPU, half),
        "a module of one's own": (own, images, 128, elbo, "adam", CPU, half),
        "networks of one's own": (assembled, images, 128, elbo, "adam", CPU, half),
        "conv": (conv(), images, 512, elbo, "adam", CPU, half),
        "conv, large batches": (conv(), images, 513, elbo, "adam", CPU, half),
        "labels": (conditional, images, 128, elbo, "adam", CPU, half),
    }
    assert [name for name, case in cases.items() if can_record(*case)] == ["dense", "conv"]
    cuda = torch.device("cuda")
    both = [elbo, vb.ImportanceWeighted()]
    assert all(can_record(conv(), images, 513, each, "adam", cuda, half) for each in both)
    assert not can_record(conditional, images, 128, elbo, "adam", cuda, half)


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
