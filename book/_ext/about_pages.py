"""What a page says of itself and offers: description, card, version, downloads, buttons.

One line of _config.yml, `repository.url`, turns on the buttons that lead to the repository, to
Colab and to Binder; another, `html.baseurl`, adds what needs the book's public address.
"""

import shutil
import tomllib
from pathlib import Path
from xml.sax.saxutils import escape

from docutils import nodes
from search import words

LONGEST = 160  # what search engines show of a description
BUTTONS = ("use_repository_button", "use_edit_page_button", "use_issues_button")
LAUNCH = {
    "binderhub_url": "https://mybinder.org",
    "colab_url": "https://colab.research.google.com",
    "notebook_interface": "jupyterlab",
}


def configure(app, config):
    """Take the version from the package; show the repository's buttons if there is one."""
    project = tomllib.loads((Path(app.srcdir) / "pyproject.toml").read_text(encoding="utf-8"))
    config.version = config.release = project["project"]["version"]
    options = config.html_theme_options
    if options.get("repository_url"):
        options.update(dict.fromkeys(BUTTONS, True))
        options.setdefault("launch_buttons", {}).update(LAUNCH)


def description(doctree):
    """Return the first sentences of a page, as many as a search engine shows."""
    openings = [p for p in doctree.findall(nodes.paragraph) if isinstance(p.parent, nodes.section)]
    text = words(openings[0]) if openings else ""
    if len(text) <= LONGEST:
        return text
    end = text.rfind(". ", LONGEST // 2, LONGEST)
    return text[: end + 1] if end > 0 else text[: text.rfind(" ", 0, LONGEST)] + " …"


def describe(app, pagename, templatename, context, doctree):
    """Give the page its description, its card, and its notebook in the download menu."""
    about = [("og:type", "website" if pagename == app.config.root_doc else "article")]
    about += [("og:site_name", app.config.html_title), ("twitter:card", "summary")]
    context["about_page"] = about
    if doctree is None:
        return
    about.append(("og:title", words(app.env.titles[pagename])))
    if text := description(doctree):
        about += [("description", text), ("og:description", text)]
    if app.config.html_baseurl:  # both must be full addresses
        base = app.config.html_baseurl.rstrip("/")
        about += [("og:url", context["pageurl"]), ("og:image", f"{base}/_static/map.png")]
    if notebook(app, pagename).exists():
        context["ipynb_source"] = f"{pagename}.ipynb"


def notebook(app, docname):
    """Return the path of the notebook beside a chapter."""
    return Path(app.srcdir, f"{docname}.ipynb")


def finish(app, error):
    """Copy the notebooks that the pages offer; list the pages if the book has an address."""
    if error or app.builder.format != "html":
        return
    docnames = sorted(app.env.found_docs)
    for name in docnames:
        if notebook(app, name).exists():
            copy = Path(app.outdir, "_sources", f"{name}.ipynb")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(notebook(app, name), copy)
    if base := app.config.html_baseurl.rstrip("/"):
        pages = [escape(f"{base}/{app.builder.get_target_uri(name)}") for name in docnames]
        lines = [f"  <url><loc>{page}</loc></url>" for page in pages]
        head = '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
        text = "\n".join(['<?xml version="1.0" encoding="UTF-8"?>', head, *lines, "</urlset>\n"])
        Path(app.outdir, "sitemap.xml").write_text(text, encoding="utf-8")


def setup(app):
    """Register with Sphinx, before the theme asks what to show."""
    app.connect("config-inited", configure, priority=100)
    app.connect("html-page-context", describe, priority=400)
    app.connect("build-finished", finish)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
