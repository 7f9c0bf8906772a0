"""Whatever is in the files, loading answers with problems and never with an exception."""

from __future__ import annotations

import tempfile
from pathlib import Path

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import schema
from gateway.config.load import Loaded, load_policy
from tests.config.golden import HERE, TODAY

WORDS = sorted({key for keys in schema.EVERY_MAP.values() for key in keys.known})
SAMPLES = ["acct", "acct/flare", "hero", "gpt-image-2", "1024x1024", "low", "0.04", "day", "minute", "${KEY}", "", "no"]
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(SAMPLES)
    | st.text(max_size=5)
    | st.dates()
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*WORDS, *SAMPLES]), inner, max_size=4),
    max_leaves=25,
)
POLICIES = st.dictionaries(
    st.sampled_from(schema.SECTIONS.known),
    TREES | st.dictionaries(st.sampled_from(SAMPLES), TREES, max_size=3),
    max_size=4,
)


def _load(data: bytes) -> Loaded:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "base.yaml").write_bytes((HERE / "base" / "base.yaml").read_bytes())
        Path(directory, "random.yaml").write_bytes(data)
        return load_policy(Path(directory), environ={"KEY": "k"}, today=TODAY)


@settings(max_examples=75, deadline=None)
@given(POLICIES)
def test_any_tree_of_known_words_is_answered(tree: dict[str, object]) -> None:
    """Trees of the reader's own keys with any values under them yield either a policy or problems."""
    loaded = _load(yaml.safe_dump(tree).encode())

    assert (loaded.policy is None) == bool(loaded.problems)


@settings(max_examples=75, deadline=None)
@given(st.binary(max_size=200) | st.text(alphabet="abc: -{}[]&*!?|>'\"\n\t#%@,\x00\ud7ff", max_size=60).map(str.encode))
def test_any_bytes_are_answered(data: bytes) -> None:
    """Bytes of any kind yield a policy or problems."""
    loaded = _load(data)

    assert (loaded.policy is None) == bool(loaded.problems)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_line_lost_from_a_sound_policy_is_answered(data: st.DataObject) -> None:
    """A policy with lines missing or swapped, as a slow writer leaves it, yields a policy or problems."""
    lines = (HERE / "contract.yaml").read_text().splitlines()
    kept = data.draw(
        st.lists(st.sampled_from(lines), max_size=len(lines)) | st.just(lines[: data.draw(st.integers(0, 60))])
    )

    loaded = _load("\n".join(kept).encode())

    assert (loaded.policy is None) == bool(loaded.problems)
