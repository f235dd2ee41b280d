"""Formulas by MathJax without its menu, which is a third of its weight.

The menu would also make each of a page's hundred formulas a stop for the Tab key.
"""

PARTS = ["input/tex", "output/chtml", "a11y/assistive-mml"]


def setup(app):
    """Let the pages load the parts of sphinx-mathjax-offline's MathJax by themselves."""
    app.setup_extension("sphinx-mathjax-offline")  # which chooses all of them
    app.config.mathjax_path = "mathjax/startup.js"
    app.config.mathjax3_config = {"loader": {"load": PARTS}}
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
