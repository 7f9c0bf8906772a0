"""Reading a request's body, JSON or multipart, into fields and input images."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, NoReturn

from PIL import Image
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from gateway.sandbox.arrivals import ReceivedFile
from gateway.sandbox.personas.openai import errors
from gateway.sandbox.personas.openai.fields import json_name

MAX_IMAGE_BYTES = 50 * 1024 * 1024
_IMAGE_FORMATS = ("PNG", "JPEG", "WEBP")
_UNFETCHED = (1024, 1024)
"""Width and height assumed of an image that is only named, by https URL or file id."""
_MAX_TEXT_BYTES = 32 * 1024 * 1024
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_NUMBERS = frozenset({"n", "output_compression", "partial_images", "frame_count", "frame_duration_ms"})
_FILES = frozenset({"image", "mask", "markup"})


@dataclass(frozen=True, slots=True)
class InputImage:
    """An input image: width and height in pixels, and what the request list shows of it (None if it was not sent)."""

    width: int
    height: int
    alpha: bool
    file: ReceivedFile | None


@dataclass(slots=True)
class Submission:
    """A body that was read: `fields` hold JSON values, or form texts turned into what they mean."""

    fields: dict[str, object] = field(default_factory=dict)
    images: list[InputImage] = field(default_factory=list)
    mask: InputImage | None = None

    @property
    def files(self) -> list[ReceivedFile]:
        """The files that came, mask last."""
        every = [*self.images, *([self.mask] if self.mask else [])]
        return [image.file for image in every if image.file]


async def read_json(request: Request) -> Submission:
    """Read a JSON object; ApiError in OpenAI's words if it is none."""
    content_type = _content_type(request)
    if content_type not in {"application/json", ""}:
        raise errors.unsupported_content_type(content_type, "application/json")
    try:
        fields = json.loads(await request.body(), parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        raise errors.bad_json() from None
    if not isinstance(fields, dict):
        raise errors.bad_json()
    return Submission(fields)


async def read_edit(request: Request) -> Submission:
    """Read an edit in either encoding, with its images."""
    content_type = _content_type(request)
    if content_type == "application/json":
        submission = await read_json(request)
        await asyncio.to_thread(take_referenced_images, submission)
        return submission
    if content_type != "multipart/form-data":
        raise errors.unsupported_content_type(content_type, "multipart/form-data")
    try:
        async with request.form(max_part_size=_MAX_TEXT_BYTES) as form:
            return await asyncio.to_thread(_from_form, form)
    except HTTPException as error:
        raise errors.ApiError(400, f"Could not parse multipart form: {error.detail}") from None


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a number that can be kept")
    return number


def _from_form(form: FormData) -> Submission:
    submission = Submission()
    for raw_name, value in form.multi_items():
        name = raw_name.removesuffix("[]")
        if isinstance(value, UploadFile) or name in _FILES:
            _take_upload(submission, name, value)
        elif name in submission.fields:
            raise errors.duplicate(name)
        else:
            submission.fields[name] = _meaning(name, value)
    return submission


def _take_upload(submission: Submission, name: str, value: UploadFile | str) -> None:
    if name not in _FILES:
        raise errors.wrong_type(name, "a string", "a file")
    if isinstance(value, str):
        raise errors.wrong_type(name, "a file", "a string")
    if value.size is not None and value.size > MAX_IMAGE_BYTES:
        raise errors.user_error(f"Invalid '{name}': the file is larger than 50 MB.", name, "file_too_large")
    position = len(submission.images) + 1
    image = _look_at(value.file, name, position, filename=value.filename, content_type=value.content_type)
    if name == "image":
        submission.images.append(image)
    elif name == "mask" and submission.mask is None:
        submission.mask = image
    elif name == "mask":
        raise errors.duplicate(name)
    else:
        submission.fields[name] = "file"


def _meaning(name: str, value: str) -> object:
    """Turn a form text into what JSON would have said."""
    if name in _NUMBERS and _WHOLE_NUMBER.fullmatch(value):
        return int(value)
    if name == "stream" and value in {"true", "false"}:
        return value == "true"
    return value


def take_referenced_images(submission: Submission) -> None:
    """Resolve `images` and `mask` of a JSON edit; the fields keep the references to images, data cut off."""
    references = submission.fields.get("images")
    if references is not None:
        if not isinstance(references, list):
            raise errors.wrong_type("images", "an array of objects", json_name(references))
        pairs = [_resolve(reference, f"images[{i}]", i + 1) for i, reference in enumerate(references)]
        submission.images = [image for image, _ in pairs]
        submission.fields["images"] = [shown for _, shown in pairs]
    mask = submission.fields.pop("mask", None)
    if mask is not None:
        submission.mask, _ = _resolve(mask, "mask", 1)


def _resolve(reference: object, param: str, position: int) -> tuple[InputImage, Mapping[str, str]]:
    if not isinstance(reference, dict):
        raise errors.wrong_type(param, "an object", json_name(reference))
    if len(reference) != 1 or not reference.keys() <= {"image_url", "file_id"}:
        raise errors.ApiError(
            400, f"Invalid '{param}': exactly one of 'image_url' and 'file_id' is expected.", param=param,
            code="invalid_value",
        )  # fmt: skip
    [(key, value)] = reference.items()
    if not isinstance(value, str):
        raise errors.wrong_type(f"{param}.{key}", "a string", json_name(value))
    if key == "file_id" or value.startswith(("https://", "http://")):
        return InputImage(*_UNFETCHED, alpha=True, file=None), {key: value}
    head, comma, data = value.partition(",")
    if not (head.startswith("data:image/") and head.endswith(";base64") and comma):
        raise errors.user_error(f"Invalid '{param}.image_url': expected an https or data URL.", param)
    try:
        content = base64.b64decode(data, validate=True)
    except binascii.Error:
        raise errors.user_error(f"Invalid '{param}.image_url': not valid base64.", param) from None
    media_type = head.removeprefix("data:").removesuffix(";base64")
    image = _look_at(io.BytesIO(content), param, position, filename=None, content_type=media_type)
    return image, {key: f"{head},({len(content)} bytes)"}


def _look_at(
    file: BinaryIO, field_name: str, position: int, *, filename: str | None, content_type: str | None
) -> InputImage:
    """Read dimensions and digest; the declared media type is not trusted."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type] # any binary file will do
    file.seek(0, io.SEEK_END)  # the digest leaves an in-memory file where it was
    length = file.tell()
    file.seek(0)
    try:
        with Image.open(file, formats=_IMAGE_FORMATS) as image:
            width, height = image.size
            alpha = image.has_transparency_data
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise errors.user_error(
            f"Invalid image file or mode for image {position}, please check your image file.",
            field_name,
            "invalid_image_file",
        ) from None
    return InputImage(width, height, alpha, ReceivedFile(field_name, filename, content_type, length, digest))
