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
    """A running sandbox: where it is, a key that its providers accept, and its bill, requests and faults. Blocking."""

    url: str
    api_key: str = DEFAULT_KEY

    @property
    def openai_url(self) -> str:
        """The base URL for an OpenAI client."""
        return f"{self.url}/openai/v1"

    @property
    def evolink_url(self) -> str:
        """The base URL of the persona that keeps tasks under `/tasks`."""
        return f"{self.url}/evolink/v1"

    @property
    def fal_url(self) -> str:
        """The base URL of the queue persona; models are paths below it."""
        return f"{self.url}/fal"

    @property
    def replicate_url(self) -> str:
        """The base URL of the predictions persona."""
        return f"{self.url}/replicate/v1"

    @property
    def bfl_url(self) -> str:
        """The base URL of the persona that answers with a polling URL; models are paths below it."""
        return f"{self.url}/bfl/v1"

    @property
    def gemini_url(self) -> str:
        """The base URL of the persona that speaks `generateContent`; models are paths below it."""
        return f"{self.url}/gemini/v1beta"

    def bill(self) -> dict[str, Any]:
        """Return `{"total_nano_usd", "total_usd", "lines"}`."""
        return self._call("GET", "/sandbox/bill")

    def requests(self) -> list[dict[str, Any]]:
        """Return what arrived, oldest first."""
        arrived: list[dict[str, Any]] = self._call("GET", "/sandbox/requests")["requests"]
        return arrived

    def images(self) -> list[dict[str, Any]]:
        """Return the images that were given out, oldest first, with prompt and `sha256`."""
        given: list[dict[str, Any]] = self._call("GET", "/sandbox/images")["images"]
        return given

    def tasks(self) -> list[dict[str, Any]]:
        """Return the work that is answered later, oldest first, with state and calls back."""
        tasks: list[dict[str, Any]] = self._call("GET", "/sandbox/tasks")["tasks"]
        return tasks

    def finish(self, task: Mapping[str, Any]) -> None:
        """Let a piece of work, as `tasks` shows it, be over now."""
        self._call("POST", f"/sandbox/tasks/{task['provider']}/{task['id']}/finish")

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
        """Empty the bill and the lists of requests, images and work, and take all faults back."""
        for what in ("tasks", "bill", "requests", "images", "faults"):
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
