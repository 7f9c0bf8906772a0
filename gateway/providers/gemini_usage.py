"""Gemini usage: what `usageMetadata` counts, in the shape of the API that is served here.

`promptTokenCount` holds what was cached; `candidatesTokenCount` does not hold `thoughtsTokenCount`; `totalTokenCount`
is the sum of these and of what tools read (`google-genai` 3.4.0, `types.GenerateContentResponseUsageMetadata`).
Thinking is billed as text output. What is not split by modality is taken for images, the dearer kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_IMAGE: Final = "IMAGE"


def told(metadata: object) -> object:
    """Return it as `ImagesResponse.usage`, cached tokens besides; None if there is none, itself if it is no such thing.

    Nothing is judged here: what is no count stays as it is, for `read_usage` to name.
    """
    if not isinstance(metadata, Mapping):
        return metadata
    counts = [metadata.get(name) or 0 for name in ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount")]
    tools = metadata.get("toolUsePromptTokenCount") or 0
    whole = [each for each in (*counts, tools) if isinstance(each, int) and not isinstance(each, bool)]
    if len(whole) < len(counts) + 1:
        return {"input_tokens": "malformed"}
    prompt, candidates, thoughts = whole[:3]
    image_in = _images(metadata, "promptTokensDetails", prompt)
    image_out = _images(metadata, "candidatesTokensDetails", candidates)
    usage: dict[str, object] = {
        "input_tokens": prompt + whole[3],
        "input_tokens_details": {"image_tokens": image_in, "text_tokens": prompt + whole[3] - image_in},
        "output_tokens": candidates + thoughts,
        "output_tokens_details": {"image_tokens": image_out, "text_tokens": candidates + thoughts - image_out},
        "total_tokens": metadata.get("totalTokenCount", sum(whole)),
    }
    cached = metadata.get("cachedContentTokenCount")
    if cached:
        usage["cached_tokens"] = cached
        if isinstance(cached, int) and isinstance(metadata.get("cacheTokensDetails"), list):
            images = _images(metadata, "cacheTokensDetails", cached)
            usage["cached_tokens_details"] = {"cached_image_tokens": images, "cached_text_tokens": cached - images}
    return usage


def _images(metadata: Mapping[str, object], name: str, total: int) -> int:
    """The tokens of images among a total; all of them where nothing says otherwise."""
    details = metadata.get(name)
    rows = [row for row in details if isinstance(row, Mapping)] if isinstance(details, list) else []
    if not rows:
        return total
    counts = [row.get("tokenCount", 0) for row in rows if row.get("modality") == _IMAGE]
    return sum(count for count in counts if isinstance(count, int))
