"""EvoLink's sizes: ratios at three resolutions, or width and height.

Source: references/api-params.md of EvoLink's gpt-image-2 skill. Its documentation page differs by 16 pixels at some.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

Size = tuple[int, int]

RESOLUTIONS = ("1K", "2K", "4K")
_LANDSCAPE: Mapping[str, tuple[Size, Size, Size]] = {
    "1:1": ((1024, 1024), (2048, 2048), (2880, 2880)),
    "3:2": ((1248, 832), (2512, 1680), (3520, 2352)),
    "4:3": ((1184, 880), (2368, 1776), (3312, 2480)),
    "5:4": ((1152, 912), (2288, 1824), (3216, 2576)),
    "16:9": ((1360, 768), (2736, 1536), (3840, 2160)),
    "2:1": ((1456, 720), (2896, 1456), (3840, 1904)),
    "21:9": ((1568, 672), (3136, 1344), (3840, 1632)),
    "3:1": ((1776, 592), (3552, 1184), (3840, 1280)),
}
_AUTO: tuple[Size, ...] = ((1024, 1024), (1536, 1024), (1024, 1536))
_SIZE = re.compile(r"([1-9][0-9]{0,4})[x\u00d7]([1-9][0-9]{0,4})", re.ASCII)
_MULTIPLE, _MIN_EDGE, _MAX_EDGE, _MAX_RATIO = 16, 16, 3840, 3
_MIN_PIXELS, _MAX_PIXELS = 655_360, 8_294_400
_UP_TO_1K, _UP_TO_2K = 1_700_000, 4_400_000


def ratio_size(ratio: str, resolution: str) -> Size | None:
    """Return width and height of a ratio such as `3:2`, None if there is no such ratio."""
    column = RESOLUTIONS.index(resolution)
    if ratio in _LANDSCAPE:
        return _LANDSCAPE[ratio][column]
    turned = ":".join(reversed(ratio.split(":")))
    if turned in _LANDSCAPE:
        width, height = _LANDSCAPE[turned][column]
        return height, width
    return None


def free_size(text: str) -> Size | None:
    """Return width and height of `WxH` (the sign may be a true one); None if it is no such text or breaks a limit."""
    match = _SIZE.fullmatch(text)
    if match is None:
        return None
    width, height = int(match[1]), int(match[2])
    within = all(_MIN_EDGE <= edge <= _MAX_EDGE and edge % _MULTIPLE == 0 for edge in (width, height))
    ratio = max(width, height) <= _MAX_RATIO * min(width, height)
    return (width, height) if within and ratio and _MIN_PIXELS <= width * height <= _MAX_PIXELS else None


def auto_size(prompt: str) -> Size:
    """Return what `auto` becomes: one of three sizes, the same for the same prompt."""
    return _AUTO[hashlib.sha256(prompt.encode("utf-8", "replace")).digest()[0] % len(_AUTO)]


def tier(size: str, resolution: str, pixels: Size) -> str:
    """Return the price tier: of a ratio its resolution, `1K` for `auto`, else by the number of pixels."""
    if size == "auto":
        return "1K"
    if ":" in size:
        return resolution
    area = pixels[0] * pixels[1]
    return "1K" if area <= _UP_TO_1K else "2K" if area <= _UP_TO_2K else "4K"
