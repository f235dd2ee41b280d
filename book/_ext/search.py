"""The book's search: sections with excerpts, from a web server and from a reader's own disk.

Sphinx shows excerpts by fetching pages, which a browser refuses to a page opened from a file. Here
the words of all sections go into one script, `search-index.js`, which only the search page loads;
`_static/search.js` ranks them there. `_static/highlight.js` marks what was looked for.
"""

import json
import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes

# What formulas say in words or signs; any other command is left out.
SIGNS = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "Delta": "Δ", "epsilon": "ε",
    "varepsilon": "ε", "eta": "η", "theta": "θ", "lambda": "λ", "mu": "μ", "nu": "ν", "pi": "π",
    "rho": "ρ", "sigma": "σ", "Sigma": "Σ", "tau": "τ", "phi": "φ", "varphi": "φ", "psi": "ψ",
    "omega": "ω", "Omega": "Ω", "nabla": "∇", "partial": "∂", "infty": "∞", "odot": "⊙",
    "times": "×", "cdot": "·", "pm": "±", "approx": "≈", "sim": "~", "ne": "≠", "neq": "≠",
    "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "ll": "≪", "gg": "≫", "to": "→", "in": "∈",
    "mid": "|", "|": "‖", "Vert": "‖", "log": "log ", "exp": "exp ", "max": "max ", "min": "min ",
    "sqrt": "√", "sum": "Σ", "prod": "Π", "int": "∫", "ldots": "…", "dots": "…", "quad": " ",
}  # fmt: skip
SILENT = (
    nodes.comment, nodes.image, nodes.math_block, nodes.raw, nodes.rubric, nodes.system_message,
    addnodes.index, addnodes.toctree,
)  # fmt: skip
NOT_NEEDED = ("searchtools.js", "language_data.js", "sphinx_highlight.js")


def plain_math(tex):
    """Return a short formula as readable signs, without LaTeX."""
    text = re.sub(r"\\[td]?frac(?:\{([^{}]*)\}\{([^{}]*)\}|(\d)(\d))", r"\1\3/\2\4", tex)
    text = text.replace("^2", "²").replace("~", " ")
    text = re.sub(r"\\([A-Za-z]+|\|)", lambda m: SIGNS.get(m[1], ""), text)
    text = re.sub(r"\\(.)", lambda m: m[1] if m[1] in "%&#$" else "", text)
    return re.sub(r"\s+", " ", re.sub(r"[{}_^]", "", text)).strip()


def read(node):
    """Return what a reader reads in a node, with the spaces as they come."""
    if isinstance(node, SILENT) or "output" in node.get("classes", []):
        return ""
    if isinstance(node, nodes.math):
        return plain_math(node.astext())
    parts = [c.astext() if isinstance(c, nodes.Text) else read(c) for c in node.children]
    return ("" if isinstance(node, nodes.TextElement) else " ").join(parts)


def words(node):
    """Return what a reader reads in a node: no pictures, no displayed formulas."""
    return re.sub(r"\s+", " ", read(node)).strip()


def is_section(node):
    """Say whether a node is a section with a heading; exercises hold some without."""
    return isinstance(node, nodes.section) and any(isinstance(c, nodes.title) for c in node)


def is_term(node):
    """Say whether a node is a term of the glossary with its definition."""
    return isinstance(node, nodes.definition_list_item) and bool(node[0]["ids"])


def is_name(node):
    """Say whether a node describes a name of the package, not a method of a class."""
    described = isinstance(node, addnodes.desc) and bool(node[0]["ids"])
    return described and not isinstance(node.parent, addnodes.desc_content)


def split(section):
    """Return the prose and the code of a section or a name, without what stands for itself."""
    prose, code = [], []
    kinds = nodes.title | addnodes.desc_signature
    heading = next(child for child in section if isinstance(child, kinds))  # stands apart

    def walk(node):
        inner = is_section(node) or is_term(node) or is_name(node)
        if node is not section and (inner or isinstance(node, SILENT) or node is heading):
            return
        if isinstance(node, nodes.literal_block):
            if "output" not in node["classes"]:
                code.append(node.astext())
        elif isinstance(node, nodes.TextElement):
            prose.append(words(node))
        else:
            for child in node.children:
                walk(child)

    walk(section)
    return " ".join(filter(None, prose)), re.sub(r"\s+", " ", "\n".join(code))


def entries(doctree, keys):
    """Return [anchor, title, prose, code, keywords] for each section, term and name."""
    found = []
    for node in doctree.findall():
        if is_section(node) and "made-of-chapters" not in node["classes"]:  # said there already
            anchor, title = node["ids"][0], words(next(node.findall(nodes.title)))
            found.append([anchor, title, *split(node), keys.get(anchor, [])])
        elif is_term(node):
            term, *definition = node.children
            prose = " ".join(words(part) for part in definition)
            found.append([term["ids"][0], words(term), prose, "", []])
        elif is_name(node):
            anchor = node[0]["ids"][0]
            found.append([anchor, anchor.replace("vaebook.", "vb.", 1), *split(node), []])
    return found


def collect(app, pagename, templatename, context, doctree):
    """Keep the words of a page that is being written, and leave away Sphinx's own marks."""
    scripts = context["script_files"]
    context["script_files"] = [s for s in scripts if "sphinx_highlight" not in str(s.filename)]
    if doctree is not None:
        keep(app, pagename, doctree)


def keep(app, docname, doctree):
    """Put the words of a page by for the index."""
    keys = {}
    for term, (chapter, anchor) in getattr(app.env, "taught", {}).items():
        if chapter == docname:
            keys.setdefault(anchor, []).append(term)
    number = app.env.toc_secnumbers.get(docname, {}).get("", ())
    title = words(app.env.titles[docname])
    title = f"{number[0]}. {title}" if number else title
    app.searched[docname] = [app.builder.get_target_uri(docname), title, entries(doctree, keys)]


def start(app):
    """Let Sphinx make no index of its own."""
    app.searched = {}
    app.builder.search = False


def search_page(app):
    """Ask for the search page, which goes with Sphinx's index otherwise."""
    return [("search", {}, "search.html")] if app.builder.format == "html" else []


def write(app, error):
    """Write the index, and remove the programs that it replaces."""
    if error or app.builder.format != "html":
        return
    out = Path(app.outdir)
    # A second build writes only the pages that changed; the others come from where they are kept.
    for name in app.env.found_docs - set(app.searched):
        keep(app, name, app.env.get_and_resolve_doctree(name, app.builder))
    pages = [app.searched[name] for name in sorted(app.searched)]
    text = json.dumps(pages, ensure_ascii=False, separators=(",", ":"))
    # These two would end a line of a script in an old browser.
    text = text.replace("\u2028", " ").replace("\u2029", " ")
    (out / "search-index.js").write_text(f"window.SEARCH_INDEX = {text};\n", encoding="utf-8")
    for name in NOT_NEEDED:
        (out / "_static" / name).unlink(missing_ok=True)


def setup(app):
    """Register the search with Sphinx."""
    app.add_js_file("highlight.js", loading_method="defer")
    app.connect("builder-inited", start)
    app.connect("html-page-context", collect, priority=900)
    app.connect("html-collect-pages", search_page)
    app.connect("build-finished", write)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}
