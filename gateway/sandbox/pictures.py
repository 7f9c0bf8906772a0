"""Pictures that say what was asked for: real PNG, JPEG and WebP of the exact size, the same for the same request."""

from __future__ import annotations

import asyncio
import base64
import colorsys
import functools
import hashlib
import io
import struct
import textwrap
import unicodedata
import zlib
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

_KEPT = 128
_THREADS = 2
_MAX_COMMENT = 65_533
"""Most bytes in one JPEG segment: its length is 16 bits and counts itself."""
_MAX_PROMPT = 300


@dataclass(frozen=True, slots=True)
class Picture:
    """What a picture shows and how it is encoded. `index` tells the images of one request apart."""

    prompt: str
    model: str
    width: int
    height: int
    quality: str
    output_format: str = "png"
    compression: int = 100
    transparent: bool = False
    index: int = 0
    note: str = ""
    padding: int = 0
    """Bytes to add that decoders skip."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A file as base64 text; `sha256` is that of its `bytes` bytes."""

    base64: str
    sha256: str
    bytes: int


class Gallery:
    """Draws pictures in threads and keeps the newest in memory; it tells which it gave out last, `kept` at most."""

    def __init__(self, kept: int = 10_000) -> None:
        self._drawn: OrderedDict[Picture, Drawn] = OrderedDict()
        self._given: deque[tuple[Picture, Drawn]] = deque(maxlen=kept)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="sandbox-picture")

    async def base64(self, picture: Picture) -> str:
        """Return the encoded picture as base64 text."""
        drawn = self._drawn.get(picture)
        if drawn is not None:
            self._drawn.move_to_end(picture)
        else:
            drawn = await asyncio.get_running_loop().run_in_executor(self._threads, _as_file, picture)
            if not picture.padding:
                self._drawn[picture] = drawn
                while len(self._drawn) > _KEPT:
                    self._drawn.popitem(last=False)
        self._given.append((picture, Drawn("", drawn.sha256, drawn.bytes)))
        return drawn.base64

    def as_json(self) -> dict[str, object]:
        """Return every image that was given out, oldest first."""
        images = [
            {
                "model": picture.model,
                "prompt": picture.prompt,
                "index": picture.index,
                "size": f"{picture.width}x{picture.height}",
                "output_format": picture.output_format,
                "partial": bool(picture.note),
                "bytes": drawn.bytes,
                "sha256": drawn.sha256,
            }
            for picture, drawn in self._given
        ]
        return {"count": len(images), "images": images}

    def clear(self) -> None:
        """Forget what was given out."""
        self._given.clear()


def _as_file(picture: Picture) -> Drawn:
    file = pad(draw(picture), picture.output_format, picture.padding)
    return Drawn(base64.b64encode(file).decode("ascii"), hashlib.sha256(file).hexdigest(), len(file))


def draw(picture: Picture) -> bytes:
    """Encode the picture, padding aside."""
    mask = _text(picture)
    if picture.transparent:
        image = Image.new("RGBA", mask.size, (0, 0, 0, 0))
        image.paste((*_colour(picture), 255), (0, 0), mask)
    else:
        image = mask
        image.putpalette(_shades(_colour(picture)))
        if picture.output_format != "png":
            image = image.convert("RGB")
    file = io.BytesIO()
    match picture.output_format:
        case "jpeg":
            image.save(file, "JPEG", quality=max(1, min(95, picture.compression)))
        case "webp":
            image.save(file, "WEBP", quality=picture.compression, method=0)
        case _:
            image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def pad(data: bytes, output_format: str, extra: int) -> bytes:
    """Make a file at least `extra` bytes longer by chunks that decoders skip."""
    if not extra:
        return data
    match output_format:
        case "jpeg":
            segment = b"\xff\xfe" + struct.pack(">H", _MAX_COMMENT + 2) + bytes(_MAX_COMMENT)
            return data[:2] + segment * -(-extra // len(segment)) + data[2:]
        case "webp":
            even = extra + extra % 2
            body = data[8:] + b"PADD" + struct.pack("<I", even) + bytes(even)
            return b"RIFF" + struct.pack("<I", len(body)) + body
        case _:
            content = b"tEXt" + b"padding\0" + b" " * extra
            chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
            after_header = 8 + 25
            return data[:after_header] + chunk + data[after_header:]


def _text(picture: Picture) -> Image.Image:
    """Draw the words as a mask: 0 is background, 255 is ink."""
    mask = Image.new("L", (picture.width, picture.height), 0)
    short = min(picture.width, picture.height)
    size = max(8, short // 24)
    prompt = _plain(picture.prompt[:_MAX_PROMPT])
    columns = max(8, int(picture.width * 0.88 / (size * 0.6)))
    facts = f"{picture.model}  {picture.width}x{picture.height}  {picture.quality}  #{picture.index + 1} {picture.note}"
    lines = [*textwrap.wrap(prompt, columns), "", *textwrap.wrap(facts, columns)]
    edge = short // 16
    drawing = ImageDraw.Draw(mask)
    drawing.rectangle(
        (edge // 2, edge // 2, picture.width - edge // 2, picture.height - edge // 2), outline=160, width=2
    )
    drawing.multiline_text((edge, edge), "\n".join(lines), fill=255, font=_font(size))
    return mask


def _plain(text: str) -> str:
    """Reduce text to ASCII, which is what Pillow's own font has; accents are dropped, other letters become `?`."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(c for c in decomposed if not unicodedata.combining(c)).encode("ascii", "replace").decode("ascii")


@functools.lru_cache(maxsize=32)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _colour(picture: Picture) -> tuple[int, int, int]:
    """Pick a colour dark enough for white ink, by prompt and index."""
    seed = hashlib.sha256(f"{picture.prompt}\0{picture.index}".encode("utf-8", "replace")).digest()
    red, green, blue = colorsys.hsv_to_rgb(seed[0] / 255, 0.65, 0.5)
    return int(red * 255), int(green * 255), int(blue * 255)


def _shades(colour: tuple[int, int, int]) -> list[int]:
    """Return a palette from the colour to white."""
    return [channel + (255 - channel) * step // 255 for step in range(256) for channel in colour]
