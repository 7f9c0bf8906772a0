"""What a project says of its images, and a job type of its cache."""

from __future__ import annotations

from gateway.domain.policy import ImageRules, Store
from tests.config.conftest import Load

POLICY = """
projects:
  usual: {job_types: [hero]}
  all: {job_types: [hero], images: {store: always, keep: 7d, quota: 10GB, convert: true}}
  some: {job_types: [hero], images: {keep: 30m, quota: 500MB}}
  none: {job_types: [hero], images: {store: never}}
job_types:
  again: {routes: [acct/gpt-image-2], cache: 2h}
"""


def test_images_are_read_as_they_are_meant(load: Load) -> None:
    """Times in seconds, volumes in bytes; what is left out is as it was before there was anything to say."""
    policy = load(policy=POLICY).policy
    assert policy is not None
    rules = {name: project.images for name, project in policy.projects.items()}
    assert rules["usual"] == ImageRules(Store.LINKS, 86_400.0, None, convert=False)
    assert rules["all"] == ImageRules(Store.ALWAYS, 7 * 86_400.0, 10**10, convert=True)
    assert rules["some"] == ImageRules(Store.LINKS, 1_800.0, 500_000_000, convert=False)
    assert (rules["none"].store, rules["none"].kept_for) == (Store.NEVER, 3_600.0)
    assert (policy.job_types["again"].cache, policy.job_types["hero"].cache) == (7_200.0, None)
