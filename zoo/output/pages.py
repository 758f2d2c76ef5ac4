"""A page for people: one HTML file with contents, sections and nothing outside it."""

import base64
import hashlib
import html
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from ..version import __version__
from .style import CSS
from .tables import SCRIPT

# The browser itself then refuses anything that is not inside the file.
ONLY_DATA = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        anchor: Its name in links.
        title: Text of its heading.
        body: HTML below the heading.
        parts: Anchors and titles of what is inside it, for the contents.
    """

    anchor: str
    title: str
    body: str
    parts: Sequence[tuple[str, str]] = ()


def shell(title: str, body: str, scripts: Sequence[str] = (), policy: str = ONLY_DATA, kind: str = "") -> str:
    """A whole page around `body`, which is HTML; `title` is text.

    Args:
        title: Stands in the browser's tab.
        body: What people see.
        scripts: Run when the rest is there. The policy names their digests, so that the browser runs no other.
        policy: What the page may read.
        kind: Class of the body for the style sheet.
    """
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    if named := "".join(f" 'sha256-{digest}'" for digest in digests):
        before, _, more = policy.partition("; script-src")
        policy = f"{before}; script-src{named}{more}"
    classed = f' class="{kind}"' if kind else ""
    run = "".join(f"<script>{script}</script>" for script in scripts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{html.escape(title)}</title><style>{CSS}</style></head>"
        f"<body{classed}>{body}{run}</body></html>\n"
    )


def document(
    title: str,
    protocol: str,
    lead: str,
    sections: Sequence[Section],
    scripts: Sequence[str] = (),
    policy: str = ONLY_DATA,
) -> str:
    """A whole page with contents, and the script that sorts its tables, before other ones.

    `lead` is HTML, `title` and `protocol` are text; see `shell` for the rest.
    """
    body = "".join(
        f'<section id="{section.anchor}"><h2>{html.escape(section.title)}</h2>{section.body}</section>'
        for section in sections
    )
    return shell(
        f"{title}: {protocol}",
        f'<a class="skip" href="#{sections[0].anchor}">Skip the contents</a>'
        f"<header><h1>{html.escape(title)}: <span>{html.escape(protocol)}</span></h1><p>{lead}</p></header>"
        f'{_contents(sections)}<main>{body}</main><a class="up" href="#contents">Contents</a>'
        f"<footer><p>Written by {html.escape(versions())}</p></footer>",
        [SCRIPT, *scripts],
        policy,
        "report",
    )


def _contents(sections: Sequence[Section]) -> str:
    def links(places: Sequence[tuple[str, str, str]]) -> str:
        lines = (f'<li><a href="#{anchor}">{html.escape(title)}</a>{inside}</li>' for anchor, title, inside in places)
        return f"<ul>{''.join(lines)}</ul>" if places else ""

    inner = [links([(*part, "") for part in section.parts]) for section in sections]
    outer = links([(s.anchor, s.title, inside) for s, inside in zip(sections, inner, strict=True)])
    return f'<nav id="contents" aria-label="Contents"><details open><summary>Contents</summary>{outer}</details></nav>'


def words(sentences: Sequence[str]) -> str:
    """Sentences, one paragraph for each."""
    return "".join(f"<p>{html.escape(text)}</p>" for text in sentences)


def facts(values: Mapping[str, str]) -> str:
    """Names with values as a list; what is called "command" looks like one."""
    lines = []
    for name, value in values.items():
        text = html.escape(value)
        text = f"<code>{text}</code>" if name.lower() == "command" else text
        lines.append(f"<div><dt>{html.escape(name)}</dt><dd>{text}</dd></div>")
    return f"<dl>{''.join(lines)}</dl>"


def versions() -> str:
    """The versions of the packages on which figures depend."""
    packages = (f"{name} {version(name)}" for name in ("torch", "lightning", "torchmetrics"))
    return ", ".join([f"zoo {__version__}", f"Python {platform.python_version()}", *packages])
