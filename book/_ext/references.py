"""References with the labels that the citations show: (Kingma and Welling, 2014)."""

from pybtex.plugin import register_plugin
from pybtex.richtext import Text
from pybtex.style.formatting.plain import Style as Plain
from pybtex.style.labels import BaseLabelStyle


def label(entry):
    """Return an entry's authors and year, as author-year citations write them."""
    people = entry.persons.get("author") or entry.persons.get("editor", [])
    names = [str(Text.from_latex(" ".join(p.prelast_names + p.last_names))) for p in people]
    short = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
    return ", ".join(filter(None, [short, entry.fields.get("year", "")]))


class AuthorYearLabels(BaseLabelStyle):
    """Labels of authors and year."""

    def format_labels(self, sorted_entries):
        """Yield each entry's label; papers of one year are told apart by a letter."""
        labels = [label(entry) for entry in sorted_entries]
        for position, text in enumerate(labels):
            before = labels[:position].count(text)
            many = labels.count(text) > 1
            yield text + "abcdefgh"[before] if many else text


class AuthorYear(Plain):
    """The plain style with these labels."""

    default_label_style = AuthorYearLabels


def as_list(app, pagename, templatename, context, doctree):
    """Make the references items of the list that they stand in, as screen readers expect."""
    if 'role="doc-biblioentry"' in context.get("body", ""):
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def setup(app):
    """Register the style with pybtex and the mending with Sphinx."""
    register_plugin("pybtex.style.formatting", "author_year", AuthorYear)
    app.connect("html-page-context", as_list)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
