"""URLs in a request's body that a provider, or the gateway, would fetch: none of them may lead inside."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from gateway.domain.addresses import Egress
from gateway.domain.errors import InvalidRequest
from gateway.domain.web_address import BadUrl, check_url

_TEXTS = frozenset({"prompt", "user", "safety_identifier", "metadata", "model", "callback_url"})
"""Fields that nobody fetches, or that are looked at elsewhere."""
_IMAGES = frozenset({"images", "image_urls", "mask", "markup"})
"""Fields in which a text without a scheme is a URL too."""

_SKIPPED = re.compile(r"^[\x00-\x20]+|[\t\r\n]+")
"""What lenient readers of URLs leave out before they read (WHATWG URL, 4.4)."""
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:|[/\\]", re.IGNORECASE | re.ASCII)
_HTTP = re.compile(r"https?:", re.IGNORECASE | re.ASCII)


def refuse_inside(fields: Mapping[str, object], egress: Egress, own: Collection[str] = ()) -> None:
    """Raise InvalidRequest, with the field's name, if a URL in a body leads where callers' URLs may not.

    `own` are links of the gateway's own, at the address that its operator gave it.
    """
    for name, value in fields.items():
        if name in _TEXTS or value is None or isinstance(value, int):
            continue
        if isinstance(value, str) and value.isalnum():  # nothing that a scheme or a path could begin with
            continue
        for param, text in _texts(name, value):
            if text in own:
                continue
            _refuse(param, text, _SCHEME if name in _IMAGES else _HTTP, egress)


def refuse_url_inside(param: str, text: str, egress: Egress) -> None:
    """Raise InvalidRequest if a text that is surely taken for a URL leads where callers' URLs may not."""
    _refuse(param, text, _SCHEME, egress)


def _refuse(param: str, text: str, pattern: re.Pattern[str], egress: Egress) -> None:
    plain = _SKIPPED.sub("", text)
    if not pattern.match(plain) or plain[:5].lower() == "data:":
        return
    try:
        check_url(text, egress)
    except BadUrl as refused:
        raise InvalidRequest(f"{param} cannot be fetched: {refused.message}.", param=param) from None


def _texts(param: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield every text within a value, with where it stands; a file's id is none."""
    left = [(param, value)]
    while left:
        place, found = left.pop()
        if isinstance(found, str):
            yield place, found
        elif isinstance(found, list):
            left += [(f"{place}[{at}]", each) for at, each in enumerate(found)]
        elif isinstance(found, dict):
            left += [(f"{place}.{key}", each) for key, each in found.items() if key != "file_id"]
