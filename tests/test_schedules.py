"""Learning rates that change: against PyTorch's own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vaebook as vb
from tests.test_training import TRAIN, assert_same_weights, fit, new_model

STEPS = 5000


@pytest.mark.parametrize(("peak", "rise"), [(4e-3, 0.25), (1.0, 0.1), (0.02, 0.7)])
def test_one_cycle_is_pytorchs_with_straight_lines(peak, rise):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, peak, total_steps=STEPS, pct_start=rise, anneal_strategy="linear",
        cycle_momentum=False, final_div_factor=1e9,
    )  # fmt: skip
    rate = vb.OneCycle(peak, rise)
    for step in range(STEPS):
        # PyTorch's lines have a step less, so that the last one is at the end.
        assert rate(step / STEPS) == pytest.approx(optimizer.param_groups[0]["lr"], abs=peak / 300)
        optimizer.step()
        theirs.step()


@given(
    peak=st.floats(1e-9, 1e3),
    rise=st.floats(1e-3, 1 - 1e-3),
    done=st.floats(0, 1),
)
def test_one_cycle_peaks_once_and_is_never_negative(peak, rise, done):
    rate = vb.OneCycle(peak, rise)
    assert 0 <= rate(done) <= peak * (1 + 1e-9)
    assert rate(rise) == pytest.approx(peak)
    assert rate(0) == pytest.approx(peak / 25)
    assert rate(1) == 0
    other = (done + rise) / 2
    assert rate(other) >= rate(done) - 1e-9 * peak


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"peak": 0}, "peak"), ({"peak": -1e-3}, "peak"), ({"peak": float("nan")}, "peak"),
        ({"peak": "fast"}, "peak"), ({"peak": 1e-3, "rise": 0}, "rise"),
        ({"peak": 1e-3, "rise": 1}, "rise"), ({"peak": 1e-3, "rise": 2.0}, "rise"),
    ],
)  # fmt: skip
def test_one_cycle_names_what_does_not_fit(options, argument):
    with pytest.raises(ValueError, match=rf"^{argument}: expected .*, got "):
        vb.OneCycle(**options)


def test_fit_follows_one_cycle_and_a_run_that_resumes_goes_on_with_it(tmp_path):
    rate = vb.OneCycle(3e-3)
    whole, by_function, halves = new_model(), new_model(), new_model()
    fit(whole, TRAIN, epochs=2, lr=rate, precision="float32")
    fit(by_function, TRAIN, epochs=2, lr=lambda done: rate(done), precision="float32")
    assert_same_weights(whole, by_function)

    def stop(model, rows):
        raise KeyboardInterrupt

    options = dict(epochs=2, lr=rate, precision="float32", checkpoint=tmp_path / "c")
    assert fit(halves, TRAIN, callbacks=[stop], **options).interrupted
    again = new_model()
    fit(again, TRAIN, resume=True, **options)
    assert_same_weights(whole, again)
