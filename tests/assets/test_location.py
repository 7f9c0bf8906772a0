"""Where assets are kept, as an operator writes it: understood, or refused with a hint and no secret repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.assets.location import Bucket, LocationError, location_of, usable


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("/srv/assets", Path("/srv/assets")),
        ("assets", Path("assets")),
        ("./s3:/a", Path("s3:/a")),
        ("/srv/~a:b", Path("/srv/~a:b")),
        ("file:///srv/my%20assets", Path("/srv/my assets")),
        ("file:/srv/assets", Path("/srv/assets")),
        ("s3://pictures", Bucket("pictures")),
        ("s3://pictures/a/b/", Bucket("pictures", "a/b")),
        (
            "s3://pictures/a?endpoint=http://minio:9000&region=eu-1&virtual_hosted=true",
            Bucket("pictures", "a", "http://minio:9000", "eu-1", virtual_hosted=True),
        ),
    ],
)
def test_a_place_is_understood(text: str, place: Path | Bucket) -> None:
    """A path, a file: URL, or a bucket with its options."""
    assert location_of(text) == place


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("s3://user:hush@pictures/a", "AWS_ACCESS_KEY_ID"),
        ("s3://pictures?access_key_id=hush", "AWS_ACCESS_KEY_ID"),
        ("s3://pictures?secret=hush", "AWS_ACCESS_KEY_ID"),
        ("s3://${BUCKET}/hush", "no variables"),
        ("/srv/${NAME}", "no variables"),
        ("s3:///a", "name a bucket"),
        ("s3:/pictures", "name a bucket"),
        ("S3:pictures", "name a bucket"),
        ("gs:/pictures", "gs: is not a place"),
        ("C:/pictures", "C: is not a place"),
        ("~/assets", "begins with ~, which stands for no directory here"),
        ("~user", "begins with ~, which stands for no directory here"),
        ("s3://minio:9000/pictures", "endpoint="),
        ("s3://pictures?regoin=eu", "'regoin' is not one of endpoint, region"),
        ("s3://pictures?region=a&region=b", "twice"),
        ("s3://pictures?endpoint=minio:9000", "http"),
        ("s3://pictures?virtual_hosted=yes", "true or false"),
        ("gs://pictures", "gs: is not a place"),
        ("file://elsewhere/srv", "of this machine"),
        ("", "it is empty"),
    ],
)
def test_what_is_no_place_is_refused(text: str, hint: str) -> None:
    """In words that help; what may be a secret is not among them."""
    with pytest.raises(LocationError, match=hint) as caught:
        location_of(text)
    assert "hush" not in str(caught.value)


def test_a_directory_is_made_and_left_empty(tmp_path: Path) -> None:
    """Private, with those above it."""
    folder = tmp_path / "srv" / "assets"

    assert usable(folder) == usable(folder) == folder
    assert list(folder.iterdir()) == []
    assert (folder.stat().st_mode | folder.parent.stat().st_mode) & 0o077 == 0


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    """A file, a device, what lies below a file, and a place where the system lets nobody make anything."""
    file = tmp_path / "file"
    file.touch()
    for path in (file, Path("/dev/null"), file / "below"):
        with pytest.raises(LocationError, match=r"is no directory$"):
            usable(path)
    with pytest.raises(LocationError, match="/proc/x cannot be used: "):
        usable(Path("/proc/x"))
