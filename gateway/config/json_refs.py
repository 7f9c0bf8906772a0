"""How the definitions of a JSON Schema are named and referred to, one for each map of a policy."""

from __future__ import annotations

import re

Schema = dict[str, object]


def ref(map_name: str) -> Schema:
    """Return a reference to the definition of a map."""
    return {"$ref": f"#/$defs/{definition(map_name)}"}


def definition(map_name: str) -> str:
    """Return what a map's definition is called."""
    return re.sub(r"[^A-Za-z_]+", "-", map_name.replace("NAME", "")).strip("-")
