"""JSON that can carry whatever a client sent or a fault wants said."""

from __future__ import annotations

import json

from starlette.responses import Response


class PlainJSON(Response):
    """A JSON answer in ASCII: lone surrogates are escaped, and NaN passes, which a fault may ask for."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Encode the content."""
        return json.dumps(content, separators=(",", ":")).encode("ascii")
