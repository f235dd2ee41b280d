"""The learning rate of a training, by how much of it is done."""

from collections.abc import Callable
from dataclasses import dataclass

from vaebook.checks import above_0, at_least_0, wrong

Rate = float | Callable[[float], float]


@dataclass(frozen=True)
class OneCycle:
    """A learning rate that rises to a peak and falls to 0, after Smith & Topin 2019.

    It goes in straight lines, from a 25th of the `peak` to the peak over the fraction `rise` of the
    training, and then to 0; momentum stays. `fit` calls it before each step with the fraction of
    steps that are done. A run that resumes with other `epochs` is elsewhere on the line. Raises a
    ValueError for a peak or a rise that is none. Chapter *From minutes to a second* compares it
    with rates that stay.

    Parameters
    ----------
    peak
        The highest rate; for Adam try 4e-3 and 8e-3 first, for Muon 4e-2.
    rise
        The fraction of the training before the peak, above 0 and below 1.

    Examples
    --------
    >>> rate = OneCycle(peak=4e-3)
    >>> [round(rate(done), 5) for done in (0.0, 0.25, 0.625, 1.0)]
    [0.00016, 0.004, 0.002, 0.0]
    """

    peak: float
    rise: float = 0.25

    def __post_init__(self) -> None:
        above_0(peak=self.peak, rise=self.rise)
        if self.rise >= 1:
            raise wrong("rise", "a fraction above 0 and below 1", self.rise)

    def __call__(self, done: float) -> float:
        """Return the rate when a fraction `done` of the training is behind."""
        return self.peak * min(0.04 + 0.96 * done / self.rise, (1 - done) / (1 - self.rise))


def as_schedule(lr: Rate | None) -> Callable[[float], float | None]:
    """Return the learning rate as a function of the fraction of the steps that are done."""
    if lr is None:
        return lambda done: None

    def rate_at(done: float) -> float:
        at_least_0(lr=(rate := lr(done) if callable(lr) else lr))
        return rate

    rate_at(0.0)
    return rate_at
