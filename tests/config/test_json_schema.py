"""The JSON Schema for editors: current, complete, and of one mind with the reader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.config.json_schema import json_schema
from gateway.config.kinds import REQUIRED
from gateway.config.schema import EVERY_MAP
from gateway.config.shipped import shipped_policies
from tests.config.golden import HERE, cases, split
from tests.config.validation import misfits, plain

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = json.loads((DOCS / "policy.schema.json").read_text())
SHIPPED = [path for path in sorted(shipped_policies().rglob("*.yaml")) if "tests" not in path.parts]
SOUND = [path for path in cases() if all(line.startswith("warning ") for line in split(path)[1])]
IN_SHAPE = [path for path in SOUND if path.parent.name == "mistakes"]


def test_the_schema_is_current() -> None:
    """The committed file is what the reader's tables and the reference make of it now."""
    assert json_schema((DOCS / "policy.md").read_text()) == SCHEMA, (
        "run python -m gateway.config.json_schema docs/policy.md > docs/policy.schema.json"
    )


def test_only_keys_that_a_map_takes_are_required() -> None:
    """No map requires a key that it does not take."""
    assert all(set(keys) <= set(EVERY_MAP[name].known) for name, keys in REQUIRED.items())


@pytest.mark.parametrize(
    "path",
    [
        *SHIPPED,
        *(HERE / name for name in ("base/base.yaml", "contract.yaml", "contract_names.yaml", "everything.yaml")),
        *IN_SHAPE,
    ],
    ids=lambda path: "/".join(path.parts[-2:]),
)
def test_what_loads_fits(path: Path) -> None:
    """Every shipped policy, and every one that `check` only warns of, fits the schema."""
    assert misfits(plain(path), SCHEMA, SCHEMA) == []


@pytest.mark.parametrize(
    ("name", "misfit"),
    [
        ("order_misspelt", "$.job_types.mockup.order: enum"),
        ("weight_of_nothing", "$.job_types.mockup.weights.acct/flare: minimum"),
        ("degrade_share_without_sign", "$.job_types.mockup.degrade[0].budget_used: type"),
        ("degrade_sets_unknown_field", "$.job_types.mockup.degrade[0].set.background: additionalProperties"),
        ("degrade_share_missing", "$.job_types.mockup.degrade[0].budget_used: required"),
        ("shadow_without_sample", "$.job_types.mockup.shadow.sample: required"),
        ("shadow_budget_as_float", "$.job_types.mockup.shadow.budget.limit: type"),
        ("experiment_by_address", "$.job_types.mockup.experiment.by: enum"),
        ("throttled_wait_without_unit", "$.job_types.mockup.throttled.wait: type"),
        ("provider_limit_misspelt", "$.providers.second.limits.image_per_minute: additionalProperties"),
        ("tier_as_number", "$.routes.acct/second.limits.tier: type"),
        ("route_quality_is_no_word", "$.routes.acct/second.quality.high: type"),
        ("legacy_sizes_misspelt", "$.models.mine.legacy.sizes.1792x1024: pattern"),
        ("budget_as_float", "$.budgets[0].limit: type"),
        ("tests_among_the_policy", "$.tests: additionalProperties"),
    ],
)
def test_mistakes_of_shape_are_seen_in_the_editor(name: str, misfit: str) -> None:
    """What can be told from one file alone is wrong by the schema too, at the same place."""
    assert misfit in misfits(plain(HERE / "mistakes" / f"{name}.yaml"), SCHEMA, SCHEMA)
