"""Tables of numbers as a reader expects them: one header row, text left, numbers right.

pandas writes the names of the index into a row of their own and leaves header cells empty, which a
screen reader announces as headers without a name.
"""

import re

from bs4 import BeautifulSoup
from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

NUMBER = re.compile(r"(nan|inf|[-+−±×%.,:e\d\s<>≤≥≈~–—/()])*", re.IGNORECASE)
HYPHEN_FOR_MINUS = re.compile(r"(?<![\w.])-(?=[\d.]|inf)")


def _text(cell):
    return cell.get_text(strip=True)


def _merge_names(head):
    """Move the index's names up into the header row, beside the columns' name if there is one."""
    rows = head.find_all("tr")
    if len(rows) < 2:
        return
    upper, lower = (row.find_all(["th", "td"]) for row in rows[-2:])
    names = [i for i, cell in enumerate(lower) if _text(cell)]
    first_column = next((i for i, cell in enumerate(upper) if _text(cell)), len(upper))
    # With names of columns, these stand directly before the first column.
    if len(upper) != len(lower) or not names or names[-1] > first_column:
        return
    for i in names:
        of_columns = _text(upper[i])
        upper[i].string = f"{_text(lower[i])} ↓ {of_columns} →" if of_columns else _text(lower[i])
    rows[-1].decompose()


def _columns(table):
    """Return the cells of each column, with those that span several rows or columns in each."""
    grid = {}
    for y, row in enumerate(table.find_all("tr")):
        x = 0
        for cell in row.find_all(["th", "td"]):
            while (y, x) in grid:
                x += 1
            width, height = int(cell.get("colspan", 1)), int(cell.get("rowspan", 1))
            grid |= {(y + dy, x + dx): cell for dy in range(height) for dx in range(width)}
            x += width
    return [[c for (_, i), c in sorted(grid.items(), key=lambda item: item[0]) if i == x]
            for x in range(1 + max((i for _, i in grid), default=-1))]  # fmt: skip


def tidy(html):
    """Return a table's HTML with one header row, aligned columns, and minus signs."""
    soup = BeautifulSoup(html, "html.parser")
    for table in soup.find_all("table"):
        del table["border"]
        for row in table.find_all("tr", style=True):
            del row["style"]
        if table.thead:
            _merge_names(table.thead)
        for cell in table.find_all("th"):
            in_head = cell.find_parent("thead") is not None
            if _text(cell):
                spans = int(cell.get("colspan", 1)) > 1
                cell["scope"] = ("colgroup" if spans else "col") if in_head else "row"
            else:
                cell.name = "td"
        for column in _columns(table):
            body = [cell for cell in column if cell.find_parent("thead") is None]
            if any(map(_text, body)) and all(NUMBER.fullmatch(_text(cell)) for cell in body):
                for cell in column:
                    cell["class"] = [*cell.get("class", []), "number"]
        for text in table.find_all(string=HYPHEN_FOR_MINUS):
            text.replace_with(HYPHEN_FOR_MINUS.sub("−", text))
        table.wrap(soup.new_tag("div", attrs={"class": "table-scroll"}))
    return str(soup)


class TidyTables(SphinxPostTransform):
    """Tidy the tables that cells have made."""

    default_priority = 190
    formats = ("html",)

    def run(self, **_):
        """Rewrite each piece of HTML that holds a table."""
        for raw in list(self.document.findall(nodes.raw)):
            if raw.get("format") == "html" and "<table" in raw.astext():
                raw.children = [nodes.Text(tidy(raw.astext()))]


def setup(app):
    """Register the transform with Sphinx."""
    app.add_post_transform(TidyTables)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
