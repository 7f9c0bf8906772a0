"""Location: parses `--assets`: a directory or the URL of an S3-compatible bucket."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from gateway.assets.blobs import make_folder

_SCHEME = re.compile(r"[A-Za-z0-9+.-]+:")
"""How a URL begins, and what is surely meant as one, such as `s3:/bucket`."""
_OPTIONS = ("endpoint", "region", "virtual_hosted")
_CREDENTIALS = "credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what else AWS_* names"


class LocationError(ValueError):
    """A place that cannot be used; the message is for the operator and repeats nothing secret."""


class Bucket(NamedTuple):
    """A bucket of an object storage. `prefix` has no slash at its ends; no `endpoint` is that of the region."""

    name: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    virtual_hosted: bool = False
    """Whether the bucket is the first part of the host name, instead of the path."""


def location_of(text: str) -> Path | Bucket:
    """Read a path, a `file:` URL or an `s3://bucket/prefix?endpoint=…&region=…` URL; PlaceError if it is none."""
    if not text:
        raise LocationError("it is empty; name a directory, or leave the option out")
    if "${" in text:
        raise LocationError(f"no variables are read here; {_CREDENTIALS}")
    if text.startswith("~"):
        raise LocationError("it begins with ~, which stands for no directory here; give the whole path")
    if not _SCHEME.match(text):
        return Path(text)
    parts = urlsplit(text)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path or parts.query:
            raise LocationError("a file: URL names a directory of this machine, as file:///srv/assets")
        return Path(unquote(parts.path))
    if parts.scheme != "s3":
        hint = "give a directory (as ./NAME where there is a colon in it), or s3://bucket/prefix"
        raise LocationError(f"{text.partition(':')[0][:20]}: is not a place that is known; {hint}")
    if "@" in parts.netloc:
        raise LocationError(f"the URL must not hold a user or password; {_CREDENTIALS}")
    if not parts.netloc or ":" in parts.netloc:
        raise LocationError(
            "the URL must name a bucket, as s3://bucket/prefix; a server of your own is named by endpoint="
        )
    return _bucket(parts.netloc, parts.path.strip("/"), parts.query)


def usable(folder: Path) -> Path:
    """Return a directory in which something was written, made if need be; PlaceError if that cannot be."""
    try:
        make_folder(folder)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except FileExistsError as error:
        raise LocationError(f"{error.filename or folder} is no directory") from error
    except OSError as error:
        raise LocationError(f"the directory {folder} cannot be used: {error.strerror}") from error


def _bucket(name: str, prefix: str, query: str) -> Bucket:
    options = parse_qsl(query, keep_blank_values=True)
    for key, _ in options:
        if "key" in key.lower() or "secret" in key.lower() or "token" in key.lower():
            raise LocationError(f"the URL must not hold credentials; {_CREDENTIALS}")
        if key not in _OPTIONS:
            raise LocationError(f"{key[:40]!r} is not one of {', '.join(_OPTIONS)}")
    given = dict(options)
    if len(given) < len(options):
        raise LocationError("an option is given twice")
    endpoint = given.get("endpoint")
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise LocationError("endpoint must be an http(s) URL, such as https://minio.example.com")
    hosted = given.get("virtual_hosted", "false")
    if hosted not in ("true", "false"):
        raise LocationError("virtual_hosted must be true or false")
    return Bucket(name, unquote(prefix), endpoint, given.get("region"), virtual_hosted=hosted == "true")
