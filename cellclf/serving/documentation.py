"""An OpenAPI document → one plain HTML page, without scripts or anything from elsewhere, so that it can be read under a strict policy and offline."""

import json
from html import escape
from typing import Any

__all__ = ["page_of"]

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; background: #fff }
h2 { border-top: 1px solid #bbb; padding-top: 1rem; font-size: 1.1rem } code, pre { font-family: ui-monospace, monospace; font-size: .9em }
pre { background: #f3f3f3; padding: .6rem; overflow-x: auto } table { border-collapse: collapse } td, th { text-align: left; vertical-align: top;
padding: .2rem 1rem .2rem 0 } .verb { text-transform: uppercase; font-weight: bold }
"""


def page_of(document: dict[str, Any]) -> str:
    """The page: each operation with its parameters, bodies and answers, and the schemas."""
    info = document["info"]
    operations = [_operation(verb, path, found) for path, verbs in document["paths"].items() for verb, found in verbs.items()]
    schemas = [f"<h2 id='{escape(name)}'>{escape(name)}</h2>{_code(schema)}" for name, schema in document["components"]["schemas"].items()]
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style>"
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info.get('description', ''))} "
        f"This page as <a href='openapi.json'>openapi.json</a>.</p>{''.join(operations)}<h1>Schemas</h1>{''.join(schemas)}</html>"
    )


def _operation(verb: str, path: str, found: dict[str, Any]) -> str:
    """One operation."""
    rows = [_row(each["name"], f"{each['in']}. {each.get('description', '')}") for each in found.get("parameters", [])]
    bodies = [_row(kind, "body") for kind in found.get("requestBody", {}).get("content", {})]
    answers = [_row(status, answer.get("description", "")) for status, answer in found["responses"].items()]
    text = found.get("description", found.get("summary", ""))
    return (
        f"<h2><span class='verb'>{escape(verb)}</span> <code>{escape(path)}</code></h2><p>{escape(text)}</p>"
        f"<table>{''.join([*rows, *bodies, *answers])}</table>"
    )


def _row(name: str, text: str) -> str:
    return f"<tr><th scope='row'><code>{escape(name)}</code></th><td>{escape(text)}</td></tr>"


def _code(value: Any) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"
