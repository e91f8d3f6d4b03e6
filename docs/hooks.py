"""What mkdocs does beyond its plugins: names in docstrings become links.

Docstrings name functions and classes as Sphinx does, ``:func:`adapt```, which stands in the page as it is.
"""

from __future__ import annotations

import re
from typing import Any

ROLE = re.compile(r":(?:func|class|meth|mod|data):<code>(~?)([^<]+)</code>")


def on_page_content(html: str, **_: Any) -> str:
    """Gives the page with each named thing as code, and as a link where the page describes it."""

    def shown(found: re.Match[str]) -> str:
        name = found[2].rsplit(".", 1)[-1] if found[1] else found[2]
        anchor = f"munitaug.{found[2].removeprefix('munitaug.').rsplit('.', 1)[-1]}"
        return f'<a href="#{anchor}"><code>{name}</code></a>' if f'id="{anchor}"' in html else f"<code>{name}</code>"

    return ROLE.sub(shown, html)
