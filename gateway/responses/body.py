"""Responses body: a conversation's request as it is sent, the image tool and its bounds put in by policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

from gateway.domain.responses import TOOL, image_tools
from gateway.ports import Body, Inputs, Rendered


@runtime_checkable
class Document(Body, Protocol):
    """A JSON body whose fields may be replaced by any JSON value."""

    def render(self, changes: Mapping[str, object]) -> Rendered:
        """Return the body with top-level fields replaced, added, or (None) left out; all else byte for byte."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What policy puts into a request: the text model, the most calls of tools and the most tokens written."""

    model: str
    calls: int
    tokens: int


@dataclass(frozen=True, slots=True)
class ResponsesBody:
    """Implements `ports.Body`; the changes that it is rendered with are those of the image tool."""

    document: Document
    bounds: Bounds | None = None

    @property
    def encoding(self) -> Literal["json", "multipart"]:
        """JSON."""
        return self.document.encoding

    @property
    def fields(self) -> Mapping[str, object]:
        """Every top-level field."""
        return self.document.fields

    @property
    def images(self) -> int:
        """None that a provider would take in another form."""
        return 0

    @property
    def mask(self) -> bool:
        """Likewise."""
        return False

    @property
    def fingerprint(self) -> str | None:
        """Hex SHA-256 of the bytes as they came; None if it was not taken."""
        return self.document.fingerprint

    @property
    def likeness(self) -> None:
        """It is like no other: its conversation is its own."""

    @property
    def tool(self) -> Mapping[str, Any] | None:
        """The image tool as the client sent it; None if there is none."""
        return next(iter(image_tools(self.fields.get("tools"))), None)

    @property
    def tool_place(self) -> str:
        """Where the image tool stands, as `tools[0]`."""
        tools = self.fields.get("tools")
        return f"tools[{tools.index(self.tool)}]" if isinstance(tools, list) and self.tool is not None else "tools"

    def bounded(self, bounds: Bounds) -> ResponsesBody:
        """Return the same request within these bounds."""
        return replace(self, bounds=bounds)

    def render(self, changes: Mapping[str, str | int | None]) -> Rendered:
        """Return the request with the image tool changed, within its bounds."""
        top: dict[str, object] = {"callback_url": None, "async": None, "service_tier": "default"}
        if self.bounds is not None:
            top |= {"model": self.bounds.model, "max_output_tokens": self.bounds.tokens}
        tools = self.fields.get("tools")
        if self.tool is not None and isinstance(tools, list):
            top["tools"] = [_changed(tool, changes) for tool in tools]
            if self.bounds is not None:
                top["max_tool_calls"] = self.bounds.calls
        return self.document.render(top)

    async def inputs(self) -> Inputs:
        """Return nothing: images stay where they are in the input."""
        return Inputs()

    async def aclose(self) -> None:
        """Free memory and the temporary file."""
        await self.document.aclose()


_OF_THE_REQUEST = ("n", "stream", "callback_url", "async")
"""Changes of an image request that a tool has no field for."""


def _changed(tool: object, changes: Mapping[str, str | int | None]) -> object:
    if not isinstance(tool, dict) or tool.get("type") != TOOL:
        return tool
    changed = {**tool, **{name: value for name, value in changes.items() if name not in _OF_THE_REQUEST}}
    return {name: value for name, value in changed.items() if value is not None}
