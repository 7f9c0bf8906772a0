"""Whether an image is whole, told by its end, for those that came without a length."""

from __future__ import annotations

import base64

import pytest

from gateway.providers.image_end import is_framed, is_whole
from gateway.providers.picture import picture_of
from gateway.spool import Spool
from tests.providers.test_picture import file_of

PREVIEW = file_of("JPEG")
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><g></g>" + b" " * 100 + b"</svg>\n<!-- the end -->"
FILES = {
    "png": file_of("PNG"),
    "jpeg": file_of("JPEG"),
    "progressive": file_of("JPEG", progressive=True, exif=b"Exif\x00\x00" + bytes(5000)),
    "with a preview": file_of("JPEG", exif=b"Exif\x00\x00" + PREVIEW),
    "lossless": file_of("WEBP", lossless=True),
    "lossy": file_of("WEBP", lossless=False),
    "transparent": file_of("WEBP", alpha=True, lossless=False),
    "gif": file_of("GIF"),
    "svg": SVG,
}


async def judged(content: bytes, *, as_text: bool) -> bool:
    """What is said of a file."""
    picture = picture_of(content)
    assert picture is not None
    spool = Spool(1 << 20)
    spool.write(base64.b64encode(content) if as_text else content)
    try:
        return await is_whole(picture.output_format, spool, base64=as_text)
    finally:
        await spool.aclose()


@pytest.mark.parametrize("as_text", [False, True], ids=["bytes", "base64"])
@pytest.mark.parametrize("content", FILES.values(), ids=list(FILES))
async def test_what_an_encoder_wrote_is_whole_and_a_part_of_it_is_not(content: bytes, as_text: bool) -> None:
    """Also with a little behind it, as some programs write."""
    assert await judged(content, as_text=as_text)
    assert await judged(content + bytes(100), as_text=as_text)
    for length in (len(content) // 2, len(content) * 3 // 4, len(content) - 20):
        assert not await judged(content[:length], as_text=as_text)


@pytest.mark.parametrize("as_text", [False, True], ids=["bytes", "base64"])
async def test_the_end_of_a_preview_is_not_that_of_its_jpeg(as_text: bool) -> None:
    """It lies in the headers: cut right behind them, or anywhere later, the picture itself is not there."""
    content = FILES["with a preview"]
    headers = content.rindex(b"\xff\xda")
    assert PREVIEW in content[:headers]
    for length in range(headers - 6, len(content) - 2, 3):
        assert not await judged(content[:length], as_text=as_text)


def test_a_length_or_chunks_frame_an_answer() -> None:
    """Then one that broke off has failed."""
    assert is_framed({"content-length": "7"})
    assert is_framed({"transfer-encoding": "gzip, Chunked"})
    assert not is_framed({"transfer-encoding": "gzip"})
    assert not is_framed({})
