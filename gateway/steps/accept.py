"""Accept: read the envelope alone, what the client asks of the gateway by headers. No body is read here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from gateway.domain import money
from gateway.domain.errors import InvalidRequest
from gateway.domain.job import Wishes
from gateway.domain.spelling import meant
from gateway.ports.envelope import ClientHeaders, Envelope

MAX_TAGS = 10
_TAG = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,39})=([A-Za-z0-9][A-Za-z0-9._ /:@-]{0,79})", re.ASCII)
_TAG_RULE = (
    "a name has up to 40 letters, digits and . _ -, a value up to 80 of these, blanks and / : @, "
    "and both begin with a letter or a digit"
)
_SHOWN = 100
"""Characters of a pair that an error quotes."""
_IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_COUNT = re.compile(r"[0-9]{1,4}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)
_DURATION = re.compile(r"([0-9]{1,6})([smh])", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3600}
LONGEST_WAIT = 86_400
"""Seconds that a task may wait before it begins, and does where its client does not say."""
RETRY_COUNT = "x-stainless-retry-count"
"""The header in which clients' libraries count their repeats."""
_OURS = "x-gateway-"
_DEADLINES = ("x-stainless-read-timeout", "x-stainless-timeout")
HEEDED = (
    *("x-gateway-job-type", "x-gateway-lane", "x-gateway-max-cost", "x-gateway-dry-run", "x-gateway-degrade"),
    *("x-gateway-tags", "prefer", "x-gateway-cache", "x-gateway-max-wait", *_DEADLINES),
)
"""Headers in which a client states its wishes, in the order in which `_wishes` takes them."""
_KNOWN = frozenset(name for name in HEEDED if name.startswith(_OURS))
_WORDS = frozenset(name.removeprefix(_OURS) for name in _KNOWN)
_LONGEST_KEPT = 512
"""Characters of one client's words that are remembered."""
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def envelope_of(headers: Mapping[str, str]) -> Envelope:
    """Return what headers ask of the gateway; raises what reading each of them raises, in this order."""
    if isinstance(headers, ClientHeaders) and headers.envelope is not None:
        return headers.envelope
    envelope = Envelope(accept(headers), idempotency_key(headers), retry_count(headers))
    if isinstance(headers, ClientHeaders):
        headers.envelope = envelope
    return envelope


def accept(headers: Mapping[str, str]) -> Wishes:
    """Return the client's wishes; InvalidRequest names the header that cannot be read, or is misspelt."""
    ours = [name for name in headers if name.startswith(_OURS)]
    if not ours and "prefer" not in headers:
        return _patient(*map(headers.get, _DEADLINES))
    if not _KNOWN.issuperset(ours):
        _check_spelling(ours)
    words = tuple(map(headers.get, HEEDED))
    short = sum([len(word) for word in words if word]) <= _LONGEST_KEPT
    return (_wishes if short else _wishes.__wrapped__)(words)


@lru_cache(256)
def _wishes(words: tuple[str | None, ...]) -> Wishes:
    """The wishes of a client that states them in these words; most state the same with each request."""
    job_type, lane, max_cost, dry_run, degrade, tags, prefer, cache, max_wait, *deadlines = words
    return Wishes(
        job_type=job_type or None,
        lane=lane or None,
        max_cost=_max_cost(max_cost),
        dry_run=_boolean(dry_run),
        degrade=_may_degrade(degrade),
        deadline=_deadline(*deadlines),
        tags=_tags(tags or ""),
        respond_async=_prefers_async(prefer or ""),
        fresh=_skips_cache(cache),
        max_wait=_max_wait(max_wait),
    )


def check_for_real(wishes: Wishes) -> None:
    """Refuse a dry run of what can only be done."""
    if wishes.dry_run:
        message = "A dry run is for image requests and POST /v1/responses alone; this would be done. Nothing was."
        raise InvalidRequest(message, param="X-Gateway-Dry-Run", code="unsupported_parameter")


def idempotency_key(headers: Mapping[str, str]) -> str | None:
    """Return the client's own name for the request; InvalidRequest if it is not 1 to 255 printable ASCII characters."""
    key = headers.get("idempotency-key")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        message = "Idempotency-Key must be 1 to 255 printable ASCII characters, such as a UUID."
        raise InvalidRequest(message, param="Idempotency-Key")
    return key


def retry_count(headers: Mapping[str, str]) -> int | None:
    """Return how often the client's library has repeated the request so far; None if it does not count, or not well."""
    count = headers.get(RETRY_COUNT)
    return int(count) if count is not None and _COUNT.fullmatch(count := count.strip()) else None


def _check_spelling(ours: Iterable[str]) -> None:
    """Refuse what is nearly one of our headers, for its sender believes that it holds; a proxy may add others."""
    for name in ours:
        word = None if name in _KNOWN else meant(name.removeprefix(_OURS), _WORDS)
        if word is not None:
            said, known = name.title(), f"{_OURS}{word}".title()
            raise InvalidRequest(f"There is no header {said}; did you mean {known}?", param=said)


@lru_cache(64)
def _patient(*said: str | None) -> Wishes:
    """The wishes of a client that asks for nothing, by the deadlines that its library sends."""
    return Wishes(deadline=_deadline(*said))


def _deadline(*said: str | None) -> float | None:
    """The seconds after which the client's library gives up, by the headers it sends (Python's, and Node's)."""
    texts = [text.strip() for text in said if text]
    return min((float(text) for text in texts if _SECONDS.fullmatch(text) and float(text) > 0), default=None)


def _max_cost(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return money.parse_usd(text.strip())
    except ValueError as error:
        message = f"X-Gateway-Max-Cost must be an amount of USD such as 0.25: {error}."
        raise InvalidRequest(message, param="X-Gateway-Max-Cost") from error


def _boolean(text: str | None) -> bool:
    value = _BOOLEANS.get((text or "false").strip().lower())
    if value is None:
        raise InvalidRequest("X-Gateway-Dry-Run must be true or false.", param="X-Gateway-Dry-Run")
    return value


def _may_degrade(text: str | None) -> bool:
    value = (text or "allow").strip().lower()
    if value not in ("allow", "never"):
        raise InvalidRequest("X-Gateway-Degrade must be never or allow.", param="X-Gateway-Degrade")
    return value == "allow"


def _skips_cache(text: str | None) -> bool:
    value = (text or "use").strip().lower()
    if value not in ("skip", "use"):
        raise InvalidRequest("X-Gateway-Cache must be skip or use.", param="X-Gateway-Cache")
    return value == "skip"


def _prefers_async(text: str) -> bool:
    """Tell whether `Prefer` (RFC 7240) names `respond-async`, among whatever else it names."""
    return any(part.partition(";")[0].strip().lower() == "respond-async" for part in text.split(","))


def _max_wait(text: str | None) -> float | None:
    if text is None:
        return None
    match = _DURATION.fullmatch(text.strip())
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 0 < seconds <= LONGEST_WAIT:
        message = "X-Gateway-Max-Wait must be a time such as 90s, 30m or 24h, of 24 hours at most."
        raise InvalidRequest(message, param="X-Gateway-Max-Wait")
    return float(seconds)


def _tags(text: str) -> dict[str, str]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    tags: dict[str, str] = {}
    for part in parts:
        match = _TAG.fullmatch(part)
        if match is None:
            raise _bad_tags(f"{part[:_SHOWN]!r} is none: {_TAG_RULE}")
        if match[1] in tags:
            raise _bad_tags(f"{match[1]!r} is named twice")
        tags[match[1]] = match[2]
    if len(tags) > MAX_TAGS:
        raise _bad_tags(f"these are {len(tags)}")
    return tags


def _bad_tags(why: str) -> InvalidRequest:
    message = f"X-Gateway-Tags must be at most {MAX_TAGS} pairs such as campaign=spring,team=web; {why}."
    return InvalidRequest(message, param="X-Gateway-Tags")
