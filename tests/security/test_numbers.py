"""Numbers in a query are small numbers: neither thousands of digits nor zeros in front of them lead past a bound."""

from __future__ import annotations

import pytest

from tests.e2e.stack import fetch
from tests.security.conftest import Planes

LISTINGS = (("data", "/v1/tasks"), ("data", "/v1/assets"), ("admin", "/admin/callbacks"))


@pytest.mark.parametrize(
    "limit", ["0", "0001999999", "0001" + "9" * 5000, "9" * 5000, "-1", "1e2", "1.0", "%C2%B2", ""]
)
@pytest.mark.parametrize(("plane", "path"), LISTINGS)
def test_a_limit_that_is_none_is_refused(planes: Planes, plane: str, path: str, limit: str) -> None:
    """400 that names the parameter, whichever listing it is."""
    port, headers = (planes.port, planes.client) if plane == "data" else (planes.admin_port, planes.admin)
    answer = fetch(f"http://127.0.0.1:{port}{path}?limit={limit}", headers=headers)
    assert (answer.status, answer.error["param"]) == (400, "limit")
