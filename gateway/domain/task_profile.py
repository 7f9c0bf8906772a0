"""Task profiles: how a provider is spoken to that takes work on and does it in its own time, as data.

Paths lead into JSON, as `json_path.py` reads them: `error.code`, `results[*].url`. URLs are templates below the
provider's base URL, with `{id}` for the work's id and `{model}` for the upstream model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.domain.profile import Amount, Profile


class TaskState(StrEnum):
    """Where work is, as far as it matters here; a word that a profile does not know counts as `running`."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    MODERATED = "moderated"
    CANCELLED = "cancelled"
    MISSING = "missing"
    """The provider says that it knows no such work."""


class Fault(StrEnum):
    """What it means that work failed, for money and for whoever asked."""

    MODERATED = "moderated"
    """The content was refused: nothing was billed, and the caller is told so."""
    INVALID = "invalid"
    """The request was wrong: nothing was billed, and the caller is told so."""
    RETRYABLE = "retryable"
    """Nothing was billed, and it may go well the next time."""
    LASTING = "lasting"
    """Nothing was billed, and this route cannot do it."""
    CANCELLED = "cancelled"
    """It was given up, at somebody's wish: nothing was billed, and it says nothing of the route."""
    UNKNOWN = "unknown"
    """It may have been billed."""


class UrlPurpose(StrEnum):
    """What a URL of a provider's work is for."""

    STATUS = "status"
    RESULT = "result"
    CANCEL = "cancel"


class Verification(StrEnum):
    """How a callback proves that it is the provider's."""

    NONE = "none"
    """By its unguessable URL alone."""
    STANDARD_WEBHOOKS = "standard_webhooks"
    """`webhook-signature`: HMAC-SHA256 in base64 over id, time and body (standardwebhooks.com)."""
    HMAC_SHA256 = "hmac_sha256"
    """HMAC-SHA256 in hex over the body, with a secret that was sent along with the work."""
    ED25519_JWKS = "ed25519_jwks"
    """Ed25519 in hex over some headers and the body's SHA-256, a line each, with a key of a published set."""


@dataclass(frozen=True, slots=True)
class CallbackProfile:
    """How a provider is told where to call back, and how its calls are believed.

    The URL is sent by a parameter of source `callback`, or in the query as `query`. `keys_url` is where the secret
    (at `key`, below the base URL, read with the account's own credentials) or the key set (absolute) is found.
    `secret_field` is the field of the body in which a secret is sent along. `signed_headers` are those that the
    signature covers, in order. Header names are lower case.
    """

    verify: Verification = Verification.NONE
    query: str = ""
    keys_url: str = ""
    key: str = "key"
    secret_field: str = ""
    signature_header: str = ""
    timestamp_header: str = ""
    signed_headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PollTimes:
    """When to look, in seconds: `first` after submitting, each `every`, and once work is `after` old, each `then`.

    At most `at_once` looks are under way for one account, and `per_second` begin in a second (None: any number).
    """

    first: float = 2.0
    every: float = 3.0
    after: float = 30.0
    then: float = 8.0
    at_once: int = 20
    per_second: float | None = None


@dataclass(frozen=True, slots=True)
class TaskProfile(Profile):
    """What is submitted where, how its state is read, and where its result lies.

    `generations` and `edits` are where work is submitted, by POST; `reported` is read in the document that holds the
    result, or in the headers that came with it, `submitted_cost` in the answer to the submission. `urls` are templates
    by purpose, `told` paths to URLs that the answer to the submission names, which are preferred. They are followed on
    the provider's own origin and on `sister_hosts` (`*.example.com`, `host:port`) alone. Without a URL for the result
    it stands in the status document. Of several paths the first that finds something counts. `patience` is the longest
    time, in seconds from submission, that work is waited for; `link_lifetime` how long links to results are good.
    """

    edits: str | None = None
    id: tuple[str, ...] = ("id",)
    urls: Mapping[UrlPurpose, str] = field(default_factory=dict)
    told: Mapping[UrlPurpose, str] = field(default_factory=dict)
    sister_hosts: tuple[str, ...] = ()
    state: str = "status"
    states: Mapping[str, TaskState] = field(default_factory=dict)
    progress: str = ""
    error_code: tuple[str, ...] = ()
    error_message: tuple[str, ...] = ()
    faults: Mapping[str, Fault] = field(default_factory=dict)
    fault_words: Mapping[str, Fault] = field(default_factory=dict)
    """What words of an error's message mean, as whole words in any case, where its code is not among `faults`."""
    otherwise: Fault = Fault.RETRYABLE
    images: tuple[str, ...] = ()
    usage: str = ""
    seconds: str = ""
    started: str = ""
    """When it started, null where it never did, for a price by the second."""
    submitted_cost: Amount | None = None
    cancel_method: str = "POST"
    callback: CallbackProfile | None = None
    poll: PollTimes = field(default_factory=PollTimes)
    patience: float = 900.0
    link_lifetime: float = 600.0
