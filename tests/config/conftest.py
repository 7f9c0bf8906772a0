"""A directory to write policies into, and a way to load them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config.load import Loaded, load_policy
from tests.config.golden import HERE, TODAY

Load = Callable[..., Loaded]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Write files (`name=text`; `__` stands for `/`) beside the sound base and load them all."""

    def run(*, environ: dict[str, str] | None = None, base: bool = True, **files: str) -> Loaded:
        texts = {f"{name.replace('__', '/')}.yaml": text for name, text in files.items()}
        if base:
            texts["base.yaml"] = (HERE / "base" / "base.yaml").read_text()
        for name, text in texts.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return load_policy(tmp_path, environ={"KEY": "k"} if environ is None else environ, today=TODAY)

    return run
