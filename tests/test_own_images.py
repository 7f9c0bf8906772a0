"""Links of the gateway's own among input images: which are known, and which are refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from gateway.assets.blobs import BlobsOnDisk
from gateway.assets.images import ImageStore
from gateway.domain.errors import InvalidRequest
from gateway.domain.links import Signer, name_of
from gateway.images.linking import PATH, Linker
from gateway.images.own_images import own_images

NOW = 1_000_000
BASE = "https://images.example.com"
SIGNER = Signer(b"secret")
NAME = name_of("team", hashlib.sha256(b"an image").hexdigest())


def link(name: str = NAME, expires: int = NOW + 60, base: str = BASE, signer: Signer = SIGNER) -> str:
    """Return a link to an image."""
    return f"{base}{PATH}{name}?{signer.query(name, expires)}"


def images(folder: Path) -> ImageStore:
    """Return where images would be stored."""
    return ImageStore(BlobsOnDisk(folder), dict)


@pytest.fixture
def linker(tmp_path: Path) -> Linker:
    """Follows links of one secret; nothing is read here."""
    return Linker(images(tmp_path), SIGNER, clock=lambda: NOW)


def test_good_links_are_known_wherever_they_stand(linker: Linker) -> None:
    """In each field that holds input images, whatever host they name; other URLs are nobody's business."""
    other = link(base="http://10.0.0.1:8000")
    fields = {
        "images": [{"image_url": link()}, {"file_id": "f"}, {"image_url": "https://example.com/v1/assets/a.png"}],
        "image_urls": ["https://example.com/a.png", other],
        "mask": {"image_url": link(expires=NOW + 61)},
        "prompt": link(expires=NOW + 62),
    }
    assert own_images(fields, linker, "team", BASE) == dict.fromkeys([link(), link(expires=NOW + 61), other], NAME)


BAD = {
    "expired": link(expires=NOW - 1),
    "unsigned": f"{BASE}{PATH}{NAME}",
    "changed": link() + "0",
    "of another secret": link(signer=Signer(b"other")),
    "of another project": link(name_of("other", "0" * 64)),
    "no image": f"{BASE}{PATH}../tasks/1?signature=0",
    "in capitals": link(expires=NOW - 1, base=BASE.upper().replace("HTTPS", "https")),
}


@pytest.mark.parametrize("url", BAD.values(), ids=BAD)
@pytest.mark.parametrize(
    ("fields", "param"),
    [("images", "images[0].image_url"), ("image_urls", "image_urls[0]"), ("mask", "mask.image_url")],
)
def test_links_that_are_not_good_are_refused_alike(linker: Linker, url: str, fields: str, param: str) -> None:
    """In the same words, with the field's name, so that nobody learns what is stored."""
    value = {"images": [{"image_url": url}], "image_urls": [url], "mask": {"image_url": url}}[fields]
    with pytest.raises(InvalidRequest) as caught:
        own_images({fields: value}, linker, "team", BASE)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert caught.value.message == f"{param} is no link to an image of this project that is stored here."


@pytest.mark.parametrize("base", ["", "https://another.example.com"])
def test_a_link_elsewhere_that_is_not_good_is_any_url(linker: Linker, base: str) -> None:
    """Another gateway's links look the same, and are left to whoever fetches them."""
    assert own_images({"image_urls": [link(signer=Signer(b"other"))]}, linker, "team", base) == {}


@pytest.mark.parametrize(("url", "public"), [(link(), True), (link(base="http://10.0.0.1"), False), (BASE, False)])
def test_only_the_configured_address_is_public(tmp_path: Path, url: str, *, public: bool) -> None:
    """What a request says of the host it called opens nothing."""
    assert Linker(images(tmp_path), SIGNER, public_url=f"{BASE}/").is_public(url) is public
    assert not Linker(images(tmp_path), SIGNER).is_public(url)
