"""An extension of griffe: the references inside docstrings (``:class:`Name```) become links of the site."""

from __future__ import annotations

import re
from typing import Any

import griffe

import ddim

__all__ = ["DocstringLinks"]

_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):`~?(?:ddim\.)?(?P<name>[\w.]+)`")


def _linked(role: re.Match[str]) -> str:
    name = role["name"]
    return f"[`{name}`][ddim.{name}]" if name.partition(".")[0] in ddim.__all__ else f"`{name}`"


class DocstringLinks(griffe.Extension):
    """Rewrites every docstring once, when its object is read."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of an object that was read."""
        if obj.docstring:
            obj.docstring.value = _ROLE.sub(_linked, obj.docstring.value)
