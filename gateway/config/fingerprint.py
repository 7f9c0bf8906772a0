"""Fingerprint: a cheap way to see that a policy's files have changed, without reading them."""

from __future__ import annotations

from pathlib import Path

from gateway.config.sources import policy_files

Fingerprint = tuple[tuple[str, int, int, int], ...]
"""Path, modification time (ns), size (bytes) and inode of every policy file."""


def fingerprint(directory: Path) -> Fingerprint:
    """Return what the files look like now; a file that vanishes meanwhile, or cannot be seen, is left out."""
    seen: list[tuple[str, int, int, int]] = []
    for path in policy_files(directory, _pass_over):
        try:
            state = path.stat()  # follows links: mounted configuration is often a link that is moved
        except OSError:
            continue
        seen.append((str(path), state.st_mtime_ns, state.st_size, state.st_ino))
    return tuple(seen)


def _pass_over(_: OSError) -> None:
    """A folder that cannot be read is reported when the policy is read."""
