"""Fingerprint: a cheap way to see that a policy's files, or those that hold its secrets, have changed."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from gateway.config.problems import Report
from gateway.config.secrets import files_named
from gateway.config.sources import policy_files, read_file

_State = tuple[str, int, int, int, int]
"""Path, when it was modified and when anything about it changed, rights too (ns), size (bytes) and inode."""
Fingerprint = tuple[_State, ...]
"""The state of every policy file, and of every file that one of them names as `${file:/path}`."""


class PolicySource(NamedTuple):
    """Where a policy is read again from; `seen` is what its files looked like before they were read."""

    directory: Path
    seen: Fingerprint


def source_of(directory: Path) -> PolicySource:
    """Return a policy's files as they are now."""
    return PolicySource(directory, fingerprint(directory))


def fingerprint(directory: Path) -> Fingerprint:
    """Return what the files look like now; one that vanishes meanwhile, is not there yet or cannot be seen is left out.

    A link that leads nowhere counts as what it is itself: a policy is refused for it, and good again without it.

    A policy file's text is looked at only where its state is new.
    """
    files = [state for path in policy_files(directory, _pass_over) if (state := _state(path))]
    secrets = sorted(set().union(*map(_secrets_of, files)))
    return (*files, *(state for path in secrets if (state := _state(Path(path)))))


def _state(path: Path) -> _State | None:
    try:
        # Links are followed: mounted configuration is often a link that is moved.
        state = path.stat() if path.exists() else path.lstat()
    except (OSError, ValueError):  # what is named need not be a path
        return None
    return str(path), state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino


@lru_cache(maxsize=1024)
def _secrets_of(file: _State) -> frozenset[str]:
    data = read_file(Path(file[0]), Report())  # what is wrong with it is reported when the policy is read
    return frozenset(files_named((data or b"").decode("utf-8", "surrogateescape")))


def _pass_over(_: OSError) -> None:
    """A folder that cannot be read is reported when the policy is read."""
