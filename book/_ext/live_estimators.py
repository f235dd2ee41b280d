"""The live figure of the chapter on two gradients, and the picture that stands in for it.

A chapter writes the figure with its caption::

    ```{live-estimators}
    :name: fig-live-estimators

    The caption.
    ```

The picture is drawn here, at build time. Where scripts run, `_static/live/estimators.js` puts the
figure in its place; only the page with the figure loads the script.
"""

from pathlib import Path

import numpy as np
from docutils import nodes
from docutils.parsers.rst import directives
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle
from sphinx.util.docutils import SphinxDirective

import vaebook as vb

REPETITIONS = 200
ALT = (
    "A hill f(z) over a normal density with four draws, each with a slope and a height. Below, for "
    "the mean and the standard deviation, two arrows, one for each estimator, and the exact "
    "gradient. 200 dots and a box show the spread of such arrows: narrow for the pathwise "
    "estimator, several times as wide for the score function."
)


def hill(z):
    """Return the height of the chapter's hill."""
    return 1.2 + 2 * np.exp(-0.5 * ((z - 1.8) / 1.1) ** 2)


def slope(z):
    """Return the derivative of `hill`."""
    return (1.2 - hill(z)) * (z - 1.8) / 1.1**2


def estimates(mean, std, noise):
    """Return both estimators' gradients for the mean and for std, averaged over the last axis."""
    z = mean + std * noise
    path = slope(z)
    score = hill(z) / std
    return {
        "pathwise": (path.mean(-1), (path * noise).mean(-1)),
        "score function": ((score * noise).mean(-1), (score * (noise**2 - 1)).mean(-1)),
    }


def still(mean=0.3, std=0.8, draws=4):
    """Return the picture that stands in for the live figure."""
    blue, rose, green = vb.plot.PALETTE[:3]
    noise = np.random.default_rng(1).standard_normal((REPETITIONS, draws))
    fig, axes = plt.subplot_mosaic("AA;BC", figsize=(6.5, 4.8), height_ratios=[1.3, 1])
    z, fine = mean + std * noise[0], np.linspace(-4, 6, 400)
    axes["A"].plot(fine, hill(fine), color="gray")
    density = 0.8 * np.exp(-0.5 * ((fine - mean) / std) ** 2)
    axes["A"].fill_between(fine, density, color=blue, alpha=0.2, lw=0)
    axes["A"].vlines(z, 0, hill(z), color=green, lw=3, alpha=0.6)
    reach = 0.35 * np.array([[-1], [1]])
    axes["A"].plot(z + reach, hill(z) + reach * slope(z), color=rose)
    axes["A"].plot(z, 0 * z, "o", color=blue, clip_on=False)
    axes["A"].text(6, 1.3, "f(z)", ha="right")
    axes["A"].text(-1.2, 0.3, "q(z; μ, σ)", color=blue, ha="right")
    axes["A"].set(ylim=0, yticks=[])
    axes["A"].spines.left.set_visible(False)
    found = estimates(mean, std, noise)
    many = estimates(mean, std, np.random.default_rng(2).standard_normal((250_000, draws)))
    for parameter, ax in enumerate([axes["B"], axes["C"]]):
        limit = 1.05 * np.abs(found["score function"][parameter]).max()
        for row, (name, color) in enumerate([("score function", green), ("pathwise", rose)]):
            g = found[name][parameter]
            ax.plot(g, row + 0.3 * np.linspace(-1, 0, len(g)), ".", color=color, ms=2)
            look = {"arrowstyle": "-|>", "color": color, "lw": 2.5, "shrinkA": 0, "shrinkB": 0}
            ax.annotate("", (g[0], row + 0.15), (0, row + 0.15), arrowprops=look)
            exact, spread = many[name][parameter].mean(), many[name][parameter].std()
            box = (exact - spread, row - 0.34), 2 * spread, 0.38
            ax.add_patch(Rectangle(*box, fill=False, ec=color, lw=1))
            ax.text(0.02, (row + 0.75) / 2.3, name, color=color, transform=ax.transAxes)
        ax.axvline(many["pathwise"][parameter].mean(), color="black", ls="--", lw=1)
        ax.axvline(0, color="gray", lw=1)
        ax.spines.left.set_visible(False)
        ax.set(title=f"gradient with respect to {'μσ'[parameter]}", yticks=[])
        ax.set(xlim=(-limit, limit), ylim=(-0.45, 1.85))
    return fig


class LiveEstimators(SphinxDirective):
    """Put the figure on the page; the content is its caption."""

    has_content = True
    option_spec = {"name": directives.unchanged_required}  # noqa: RUF012

    def run(self):
        """Draw the still picture and return a figure around it."""
        path = Path("_build", "live", "estimators.png")
        target = Path(self.env.srcdir, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with plt.style.context("vaebook.plot.book"):
            fig = still()
            fig.savefig(target, dpi=150)
            plt.close(fig)
        image = nodes.image(uri=f"/{path.as_posix()}", alt=ALT, classes=["still"])
        figure = nodes.figure("", image, classes=["live-estimators"])
        (caption,) = self.parse_content_to_nodes()
        figure += nodes.caption(caption.rawsource, "", *caption.children)
        self.set_source_info(figure)
        self.add_name(figure)
        return [figure]


def add_files(app, pagename, templatename, context, doctree):
    """Load script and style on the pages that have the figure."""
    figures = doctree.findall(nodes.figure) if doctree else []
    if any("live-estimators" in figure["classes"] for figure in figures):
        app.add_js_file("live/estimators.js", loading_method="defer")
        app.add_css_file("live/estimators.css")


def setup(app):
    """Register the directive with Sphinx."""
    app.add_directive("live-estimators", LiveEstimators)
    app.connect("html-page-context", add_files)
    return {"version": "1", "parallel_read_safe": True}
