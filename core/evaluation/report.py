"""Reports as one HTML file: pictures inside, no network, no script; readable by itself, light or dark.

A `Report` is made of `Section`s, a section of blocks: `Text`, `Table`, `Picture`. Whatever they say
is escaped here, and nowhere else.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from string import Template
from urllib.parse import quote

from .bootstrap import Difference, Interval

Cell = str | int | float | Interval | None


@dataclass(frozen=True)
class Text:
    """Sentences: a paragraph, or a list of findings."""

    sentences: Sequence[str]
    is_list: bool = False


@dataclass(frozen=True)
class Table:
    """A table; the first cell of a row is its heading.

    Attributes:
        columns: Headings.
        rows: As many cells each.
        caption: Written above.
        is_folded: Whether it opens on a click.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    is_folded: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture, which becomes part of the page.

    Attributes:
        data: PNG or JPEG.
        alt: What it shows, in words.
        caption: Written below.
        link: File beside the report that a click opens: the picture in full; empty: none.
        is_wide: Whether it takes the page's whole width.
    """

    data: bytes
    alt: str
    caption: str = ""
    link: str = ""
    is_wide: bool = False


Block = Text | Table | Picture


@dataclass(frozen=True)
class Section:
    """A chapter of a report."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Report:
    """A whole report.

    Attributes:
        title: Of the page.
        facts: What it is about: model, data, date ….
        highlights: The few numbers that matter most, shown large.
        sections: In their order; those without blocks are left out.
    """

    title: str
    facts: Mapping[str, Cell]
    highlights: Mapping[str, Cell] = field(default_factory=dict)
    sections: Sequence[Section] = ()


def render_html(report: Report) -> str:
    """The report as an HTML5 page."""
    sections = [s for s in report.sections if s.blocks]
    return _PAGE.substitute(
        title=escape(report.title),
        style=_STYLE,
        facts=_facts(report.facts),
        highlights=_highlights(report.highlights),
        contents="".join(f'<li><a href="#s{i}">{escape(s.title)}</a></li>' for i, s in enumerate(sections)),
        sections="\n".join(_section(i, s) for i, s in enumerate(sections)),
    )


def render_markdown(table: Table) -> str:
    """A table as Markdown, with its caption above."""
    lines = [table.columns, [":--", *["--:"] * (len(table.columns) - 1)]]
    lines += [[format_cell(cell).replace("|", "\\|") for cell in row] for row in table.rows]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table.caption}\n\n{body}\n" if table.caption else f"{body}\n"


def format_cell(value: Cell) -> str:
    """A cell in words: three decimals, intervals in brackets, a dash for what is not known.

    A difference has its sign, and a star where its interval lies on one side of 0.
    """
    middle, ends = _parts(value)
    return f"{middle} ({ends})" if ends else middle


def _parts(value: Cell) -> tuple[str, str]:
    """A cell's value, and its interval; empty where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–", ""
    if isinstance(value, Interval):
        form = "+.3f" if isinstance(value, Difference) else ".3f"
        star = "*" if isinstance(value, Difference) and value.excludes_zero else ""
        middle = "–" if math.isnan(value.value) else f"{value.value:{form}}{star}"
        return middle, "" if math.isnan(value.low) else f"{value.low:{form}} to {value.high:{form}}"
    if isinstance(value, float):
        return f"{value:.3f}", ""
    return (f"{value:,}".replace(",", " ") if isinstance(value, int) else value), ""


def _section(number: int, section: Section) -> str:
    blocks = "\n".join(_block(block) for block in section.blocks)
    return f'<section id="s{number}">\n<h2>{escape(section.title)}</h2>\n{blocks}\n</section>'


def _block(block: Block) -> str:
    match block:
        case Text(sentences, is_list=True):
            return "<ul>" + "".join(f"<li>{escape(s)}</li>" for s in sentences) + "</ul>"
        case Text(sentences):
            return f"<p>{escape(' '.join(sentences))}</p>"
        case Table():
            return _table(block)
        case Picture():
            return _picture(block)


def _facts(pairs: Mapping[str, Cell]) -> str:
    if not pairs:
        return ""
    entries = (f"<div><dt>{escape(k)}</dt><dd>{escape(format_cell(v))}</dd></div>" for k, v in pairs.items())
    return f'<dl class="facts">{"".join(entries)}</dl>'


def _highlights(pairs: Mapping[str, Cell]) -> str:
    if not pairs:
        return ""
    entries = []
    for name, value in pairs.items():
        middle, ends = map(escape, _parts(value))
        entries.append(f"<div><dt>{escape(name)}</dt><dd><b>{middle}</b><small>{ends}</small></dd></div>")
    return f'<dl class="highlights">{"".join(entries)}</dl>'


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(c)}</th>' for c in table.columns)
    rows = "".join(_row(row) for row in table.rows)
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption and not table.is_folded else ""
    body = f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    body = f'<div class="scroll">{body}</div>'
    if not table.is_folded:
        return body
    return f"<details><summary>{escape(table.caption)}</summary>{body}</details>"


def _row(row: Sequence[Cell]) -> str:
    first, *others = row
    return f'<tr><th scope="row">{escape(format_cell(first))}</th>{"".join(map(_cell, others))}</tr>'


def _cell(value: Cell) -> str:
    middle, ends = map(escape, _parts(value))
    if isinstance(value, str):
        return f"<td>{middle}</td>"
    return f'<td class="n">{middle}{f"<small>{ends}</small>" if ends else ""}</td>'


def _picture(picture: Picture) -> str:
    kind = "png" if picture.data.startswith(b"\x89PNG") else "jpeg"
    data = base64.b64encode(picture.data).decode("ascii")
    image = f'<img src="data:image/{kind};base64,{data}" alt="{escape(picture.alt)}">'
    if picture.link:
        image = f'<a href="{escape(quote(picture.link))}">{image}</a>'
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else ""
    return f'<figure class="{"wide" if picture.is_wide else "plain"}">{image}{caption}</figure>'


_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>$style</style>
</head>
<body>
<header>
<h1>$title</h1>
$facts
</header>
<main>
$highlights
<nav aria-label="Contents"><ul>$contents</ul></nav>
$sections
</main>
</body>
</html>
""")

_STYLE = """
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem; font: 16px/1.5 system-ui, sans-serif;
  color: #1c1f23; background: #fff; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .75rem; padding-top: .75rem; border-top: 1px solid #d5d9de; }
dl, dd { margin: 0; }
dt, small, figcaption, caption { color: #5c6570; font-size: .875rem; }
.facts > div { display: inline-block; vertical-align: top; margin: 0 2rem .5rem 0; max-width: 100%;
  overflow-wrap: anywhere; }
.highlights { margin: 1.5rem 0; }
.highlights > div { display: inline-block; vertical-align: top; margin: 0 .75rem .75rem 0;
  padding: .6rem 1rem; min-width: 7rem; border: 1px solid #d5d9de; border-radius: 6px; }
.highlights b { display: block; font-size: 1.6rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
nav ul { padding: 0; list-style: none; }
nav li { display: inline-block; margin: 0 1.25rem .25rem 0; }
a { color: #b80048; }
.scroll { display: inline-block; max-width: 100%; overflow-x: auto; margin: .75rem 1.5rem .75rem 0;
  vertical-align: top; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .4rem; }
th, td { padding: .3rem .9rem .3rem 0; text-align: left; vertical-align: top; font-weight: normal;
  border-bottom: 1px solid #e4e7ea; }
thead th { color: #5c6570; font-size: .875rem; }
td.n, thead th + th { white-space: nowrap; }
td small { display: block; font-size: .8rem; }
figure { display: inline-block; margin: .75rem 1rem .75rem 0; max-width: 100%; vertical-align: top; }
figure.wide { display: block; margin-right: 0; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
figure.plain img { max-width: 31rem; max-width: min(31rem, 100%); }
details { margin: .75rem 0; }
summary { cursor: pointer; }
@media (prefers-color-scheme: dark) {
  body { color: #e3e6ea; background: #181b1f; }
  h2, .highlights > div, th, td { border-color: #383e46; }
  dt, small, figcaption, caption, thead th { color: #9aa4af; }
  a { color: #ff7fae; }
}
@media print { nav { display: none; } section { break-inside: avoid-page; } }
"""
