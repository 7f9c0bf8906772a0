"""A small client for the control plane, for tests."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from gateway.sandbox.options import DEFAULT_KEY

_TIMEOUT_SECONDS = 10


class SandboxError(Exception):
    """The sandbox refused; the message is its own."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A running sandbox: where it is, the key its providers accept, and its bill, requests and faults. Blocking."""

    url: str
    api_key: str = DEFAULT_KEY

    @property
    def openai_url(self) -> str:
        """The base URL for an OpenAI client."""
        return f"{self.url}/openai/v1"

    def bill(self) -> dict[str, Any]:
        """Return `{"total_nano_usd", "total_usd", "lines"}`."""
        return self._call("GET", "/sandbox/bill")

    def requests(self) -> list[dict[str, Any]]:
        """Return what arrived, oldest first."""
        arrived: list[dict[str, Any]] = self._call("GET", "/sandbox/requests")["requests"]
        return arrived

    def faults(self) -> list[dict[str, Any]]:
        """Return the faults in force and the used-up ones, with `times` left and `hits`."""
        scripted: list[dict[str, Any]] = self._call("GET", "/sandbox/faults")["faults"]
        return scripted

    def fault(
        self,
        name: str,
        *,
        times: int | None = 1,
        provider: str | None = None,
        match: Mapping[str, object] | None = None,
        **parameters: object,
    ) -> str:
        """Script a fault and return its id; `times=None` is for ever. SandboxError if it is not known."""
        wanted = {"fault": name, "times": times, "provider": provider, "match": match or {}, **parameters}
        return str(self._call("POST", "/sandbox/faults", wanted)["id"])

    def remove_fault(self, fault_id: str) -> None:
        """Take a fault back; SandboxError if there is none by that id."""
        self._call("DELETE", f"/sandbox/faults/{fault_id}")

    def reset(self) -> None:
        """Empty the bill and the list of requests and take all faults back."""
        for what in ("bill", "requests", "faults"):
            self._call("DELETE", f"/sandbox/{what}")

    def _call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        answer: dict[str, Any] = json.loads(text) if text else {}
        if response.status >= http.client.BAD_REQUEST:
            raise SandboxError(answer["error"]["message"])
        return answer
