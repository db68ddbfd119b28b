"""Jinja2 templates of the files around the generated firmware; see README.md. Installed as ``hgq.firmware_templates``."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2


@cache
def environment() -> jinja2.Environment:
    """The one Jinja2 environment: an undefined variable is an error, line ends are kept, nothing is HTML-escaped."""
    import jinja2

    found = jinja2.Environment(
        loader=jinja2.PackageLoader("hgq.firmware_templates", ""),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    found.filters.update(line=one_line, camel=camel)
    return found


def one_line(text: str) -> str:
    """Free text as part of one line of a comment or of Markdown: nothing in it ends the line, the comment or the code around it."""
    return "".join(letter if letter.isprintable() and letter not in "`\\*|" else " " for letter in str(text))


def camel(name: str) -> str:
    """``my_model`` -> ``MyModel``: a class's name from a project's."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def render(template: str, /, **values: Any) -> str:
    """Text of `template` (a path in this folder such as ``vivado/build.tcl.j2``) with `values` filled in."""
    return environment().get_template(template).render(**values)
