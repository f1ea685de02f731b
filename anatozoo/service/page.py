"""The page that describes the service, without a script and without anything of another machine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
"""Content-Security-Policy of the page."""
_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem }
code, pre { font: 14px/1.4 ui-monospace, monospace }
pre { overflow-x: auto; padding: .6rem; border: 1px solid #8884 }
h2 { margin-top: 2.2rem; font-size: 1.1rem }
h2 code { font-size: 1rem }
table { border-collapse: collapse; display: block; overflow-x: auto; margin: 1rem 0 }
td, th { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0 }
.quiet { opacity: .7 }
form { border: 1px solid #8884; padding: .8rem; display: flex; gap: .8rem; flex-wrap: wrap }
"""


def page(openapi: Mapping[str, Any], models: Sequence[Mapping[str, Any]], *, with_form: bool) -> str:
    """The page as HTML.

    Args:
        openapi: description of the addresses.
        models: what is served.
        with_form: whether a form to try each model stands there; a form cannot send a token.
    """
    info = openapi["info"]
    parts = [
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        f"<p>{escape(info['description'])}</p>",
        '<p class="quiet">The same for programs: <a href="openapi.json">openapi.json</a>, '
        '<a href="models">models</a>, <a href="health">health</a></p>',
        "<h2>Models</h2>",
        _table(
            ("name", "takes", "organs", "formats", "terms"),
            [
                (
                    f"<code>{escape(model['name'])}</code> {escape(model['version'])}",
                    escape(model["takes"]),
                    escape(", ".join(model["organs"])),
                    escape(", ".join(model["formats"])),
                    escape(model.get("license") or ""),
                )
                for model in models
            ],
        ),
    ]
    if with_form:
        parts += [_form(model) for model in models]
    else:
        parts.append("<p>Every address but <code>/health</code> needs the token of this service.</p>")
    for path, methods in openapi["paths"].items():
        parts += [_operation(path, method, found) for method, found in methods.items()]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
        f"<body>\n{body}\n</body></html>\n"
    )


def _form(model: Mapping[str, Any]) -> str:
    name = escape(model["name"], quote=True)
    several = " multiple" if model["axes"] == 3 else ""
    buttons = "".join(
        f'<button formaction="predict/{name}?format={form}">{form}</button>'
        for form in ("overlay", "mask", "json")
    )
    return (
        f'<form method="post" enctype="multipart/form-data"><b>{name}</b>'
        f'<input type="file" name="file" required aria-label="file for {name}"{several}>{buttons}</form>'
    )


def _operation(path: str, method: str, found: Mapping[str, Any]) -> str:
    parts = [
        f"<h2><code>{escape(method.upper())} {escape(path)}</code></h2>",
        *(f"<p>{_text(text)}</p>" for text in found.get("description", "").split("\n\n")),
    ]
    if "requestBody" in found:
        kinds = ", ".join(found["requestBody"]["content"])
        parts.append(f'<pre>curl -F file=@scan.dcm "http://ADDRESS{escape(path)}"</pre>')
        parts.append(f'<p class="quiet">Bodies: {escape(kinds)}</p>')
    rows = [
        (f"<code>{escape(each['name'])}</code>", escape(each["in"]), escape(each.get("description", "")))
        for each in found.get("parameters", ())
    ]
    if rows:
        parts.append(_table(("parameter", "in", "meaning"), rows))
    answers = [(escape(status), _text(each["description"])) for status, each in found["responses"].items()]
    return "\n".join([*parts, _table(("answer", "meaning"), answers)])


def _text(text: str) -> str:
    """Text as HTML, what stands between backticks as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the cells are HTML."""
    lines = ["".join(f"<th>{escape(name)}</th>" for name in head)]
    lines += ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    return "<table>" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "</table>"
