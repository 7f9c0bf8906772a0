"""What a request to `generateContent` asks for, read as strictly as the API reads it."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

from gateway.sandbox.arrivals import ReceivedFile
from gateway.sandbox.personas.gemini.catalog import DEFAULT, SCALE, SIZES, Model
from gateway.sandbox.personas.gemini.errors import ApiError, unknown_field
from gateway.sandbox.personas.openai.pricing import text_tokens
from gateway.sandbox.sources import Source, Unusable, load

MAX_REQUEST = 20 * 1024 * 1024
MAX_IMAGES = 14
_MIME = ("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif")


@dataclass(frozen=True, slots=True)
class Job:
    """One request. `ratio` is that of the picture, `resolution` a word of `SCALE`."""

    model: Model
    prompt: str
    sources: tuple[Source, ...]
    ratio: str
    resolution: str

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        (width, height), (times, over) = SIZES[self.ratio], SCALE[self.resolution]
        return width * times // over, height * times // over

    @property
    def operation(self) -> str:
        """What it is, in the words of faults and bill."""
        return "edit" if self.sources else "generate"

    @property
    def text_in(self) -> int:
        """Tokens of the prompt."""
        return text_tokens(self.prompt)

    @property
    def image_in(self) -> int:
        """Tokens of the input images."""
        return self.model.input_image * len(self.sources)

    @property
    def files(self) -> list[ReceivedFile]:
        """The input images, as the request list shows them."""
        return [source.file for source in self.sources]


async def read(body: bytes, model: Model) -> Job:
    """Return the job; raises ApiError."""
    if len(body) > MAX_REQUEST:
        raise ApiError(400, f"Request payload size exceeds the limit: {MAX_REQUEST} bytes.")
    try:
        document = json.loads(body)
    except ValueError as error:
        raise ApiError(400, f"Invalid JSON payload received. {error}") from error
    top = _closed(document, "", ("contents", "generationConfig", "safetySettings", "systemInstruction"))
    contents = top.get("contents")
    if not isinstance(contents, list) or not contents:
        raise ApiError(400, "* GenerateContentRequest.contents: contents is not specified")
    parts = _closed(contents[0], "contents[0]", ("role", "parts")).get("parts")
    if not isinstance(parts, list) or not parts:
        raise ApiError(400, "* GenerateContentRequest.contents[0].parts: contents.parts must not be empty.")
    texts, sources = [], []
    for at, each in enumerate(parts):
        part = _closed(each, f"contents[0].parts[{at}]", ("text", "inlineData", "fileData"))
        if isinstance(part.get("text"), str):
            texts.append(str(part["text"]))
        else:
            sources.append(await _source(part, f"contents[0].parts[{at}]"))
    if len(sources) > MAX_IMAGES:
        raise ApiError(400, f"The request has {len(sources)} images, and at most {MAX_IMAGES} are supported.")
    ratio, resolution = _image_config(top.get("generationConfig", {}), model)
    if ratio is None:
        ratio = _nearest(sources[0].width / sources[0].height) if sources else "1:1"
    return Job(model, "\n".join(texts), tuple(sources), ratio, resolution or DEFAULT)


async def _source(part: dict[str, object], path: str) -> Source:
    if "inlineData" not in part:
        raise ApiError(400, f"{path}: Unsupported file uri.")
    data = _closed(part["inlineData"], f"{path}.inline_data", ("mimeType", "data"))
    mime = data.get("mimeType")
    if mime not in _MIME:
        raise ApiError(400, f"Unsupported MIME type: {mime}")
    try:
        return await load("inlineData", f"data:{mime};base64,{data.get('data')}")
    except Unusable as error:
        raise ApiError(400, "Unable to process input image. Please retry or report in the forum.") from error


def _image_config(config: object, model: Model) -> tuple[str | None, str | None]:
    generation = _closed(config, "generation_config", ("responseModalities", "imageConfig", "temperature", "seed"))
    modalities = generation.get("responseModalities", ["TEXT", "IMAGE"])
    if not isinstance(modalities, list) or "IMAGE" not in modalities:
        raise ApiError(400, "The requested combination of response modalities is not supported by the model.")
    image = _closed(generation.get("imageConfig", {}), "generation_config.image_config", ("aspectRatio", "imageSize"))
    ratio, size = image.get("aspectRatio"), image.get("imageSize")
    if ratio is not None and ratio not in SIZES:
        raise ApiError(400, f"Invalid value at 'generation_config.image_config.aspect_ratio': {ratio!r}")
    if size is not None and not model.takes_size:
        raise ApiError(400, f"image_size is not supported by {model.id}.")
    if size is not None and size not in model.tokens:
        raise ApiError(400, f"Invalid value at 'generation_config.image_config.image_size': {size!r}")
    return (None if ratio is None else str(ratio)), (None if size is None else str(size))


def _nearest(shape: float) -> str:
    return min(SIZES, key=lambda ratio: abs(SIZES[ratio][0] / SIZES[ratio][1] - shape))


def _closed(value: object, path: str, names: Collection[str]) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ApiError(400, f"Invalid value at '{path}' (type.googleapis.com/...), expected an object.")
    for name in value:
        if name not in names:
            raise unknown_field(path, name)
    return value
