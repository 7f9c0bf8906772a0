"""URLs in a body are refused where they lead inside, whatever the field, and texts are left alone."""

from __future__ import annotations

import pytest

from gateway.domain.addresses import Egress
from gateway.domain.errors import InvalidRequest
from gateway.domain.input_urls import refuse_inside
from gateway.domain.web_address import LONGEST

INSIDE = "http://169.254.169.254/latest/meta-data/"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"image_urls": ["https://example.com/a.png", INSIDE]}, "image_urls[1]"),
        ({"images": [{"file_id": "f"}, {"image_url": INSIDE}]}, "images[1].image_url"),
        ({"mask": {"image_url": "http://localhost:9090/metrics"}}, "mask.image_url"),
        ({"markup": {"image_url": "http://2130706433/"}}, "markup.image_url"),
        ({"image_urls": ["file:///etc/passwd"]}, "image_urls[0]"),
        ({"image_urls": ["gopher://127.0.0.1:6379/_INFO"]}, "image_urls[0]"),
        ({"image_urls": ["//127.0.0.1/"]}, "image_urls[0]"),
        ({"image_urls": [" \n" + INSIDE]}, "image_urls[0]"),
        ({"image_urls": ["ht\ntp://127.0.0.1/"]}, "image_urls[0]"),
        ({"image_urls": ["\\\\127.0.0.1\\share"]}, "image_urls[0]"),
        ({"image_urls": ["https://example.com/" + "a" * LONGEST]}, "image_urls[0]"),
        ({"init_image": INSIDE}, "init_image"),
        ({"webhook": "HTTP://10.0.0.1/"}, "webhook"),
        ({"extra": {"references": [{"image_url": {"url": INSIDE}}]}}, "extra.references[0].image_url.url"),
    ],
)
def test_a_url_that_leads_inside_is_refused_by_its_field(fields: dict[str, object], param: str) -> None:
    """Every field that somebody might fetch is looked through, and the refusal names where the URL stands."""
    with pytest.raises(InvalidRequest) as caught:
        refuse_inside({"prompt": "x", **fields}, Egress())
    assert (caught.value.status, caught.value.param) == (400, param)
    assert caught.value.message.startswith(f"{param} cannot be fetched: ")


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": f"a screenshot of {INSIDE}", "n": 2, "stream": True, "user": INSIDE, "model": "job:x"},
        {"metadata": {"page": "http://localhost:3000/"}, "style": "vivid", "background": None},
        {"image_urls": ["https://example.com/a.png?next=http://127.0.0.1/", "data:image/png;base64,AAAA"]},
        {"images": [{"image_url": "DATA:image/png;base64,AAAA"}, {"file_id": "http://127.0.0.1/"}]},
        {"images": [{"image_url": "long-string-0"}], "note": "see http://localhost/"},
        {"callback_url": INSIDE},
    ],
)
def test_what_nobody_fetches_is_left_alone(fields: dict[str, object]) -> None:
    """Texts, data, ids, public URLs and fields that are looked at elsewhere pass."""
    refuse_inside(fields, Egress())


def test_policy_opens_hosts_for_images_too() -> None:
    """A host that policy opened may be named as an input image."""
    refuse_inside(
        {"image_urls": ["http://images.internal:81/a.png"]}, Egress(hosts=frozenset({("images.internal", 81)}))
    )
