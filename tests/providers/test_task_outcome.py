"""What the words of an error mean, where a provider has no codes."""

from __future__ import annotations

import pytest

from gateway.domain.task_profile import Fault, TaskProfile
from gateway.providers.task_outcome import fault_of, of_fault

PROFILE = TaskProfile(
    faults={"busy": Fault.RETRYABLE},
    fault_words={"E005": Fault.MODERATED, "flagged as sensitive": Fault.MODERATED, "bad (size)": Fault.INVALID},
)


@pytest.mark.parametrize(
    ("message", "code", "fault"),
    [
        ("Please try again with different inputs. (E005) (rq7)", "error", Fault.MODERATED),
        ("The input was FLAGGED as sensitive.", None, Fault.MODERATED),
        ("This is a bad (size).", None, Fault.INVALID),
        ("Flagged as sensitive", "busy", Fault.RETRYABLE),
        ("Failed (E0051)", None, None),
        ("Failed (XE005)", "error", None),
        ("", None, None),
    ],
)
def test_words_of_a_message_are_found_whole_and_after_codes(
    message: str, code: str | None, fault: Fault | None
) -> None:
    """A known code comes first; else words count in any case, but never as part of another word."""
    assert fault_of(PROFILE, message, code) is fault


@pytest.mark.parametrize("fault", list(Fault), ids=str)
def test_work_that_failed_has_its_providers_word(fault: Fault) -> None:
    """Logs tell it, whatever the failure means."""
    assert of_fault(fault, "content_policy_violation", "").code == "content_policy_violation"
