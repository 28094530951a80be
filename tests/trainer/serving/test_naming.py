from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import imitrace
from imitrace.testing import Captured
from imitrace_trainer.serving.naming import Naming, naming


def named(metadata: Any = None, **headers: str) -> Naming:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return naming(pairs, metadata, {"team": "a", "cohort": "common"})


def test_without_a_word_the_tags_are_the_proxys() -> None:
    assert named() == Naming(None, None, {"team": "a", "cohort": "common"})


def test_metadata_names_a_trajectory_and_its_task_and_the_rest_are_tags() -> None:
    metadata = {"imitrace_trajectory": "t", "imitrace_task": "k", "imitrace_cohort": "rare", "other": "x"}
    assert named(metadata) == Naming("t", "k", {"team": "a", "cohort": "rare"})


def test_headers_beat_metadata() -> None:
    metadata = {"imitrace_trajectory": "t", "imitrace_task": "k", "imitrace_cohort": "rare"}
    found = named(metadata, x_imitrace_trajectory="T", x_imitrace_task="K", x_imitrace_tags='{"cohort": "new"}')
    assert found == Naming("T", "K", {"team": "a", "cohort": "new"})


@pytest.mark.parametrize("own", [True, False])
def test_a_callers_own_trajectory_goes_on_here(seen: Captured, own: bool) -> None:
    with imitrace.trajectory(id="ticket-7"):
        headers = dict(imitrace.inject())
    if not own:
        del headers["imitrace-trajectory"]  # what a foreign propagator leaves of it: traceparent and baggage
    found = naming([(name.encode(), value.encode()) for name, value in headers.items()], None, {})
    assert (found.trajectory, found.joins) == ("ticket-7", headers)


def test_no_other_header_is_kept_of_a_callers_own_trajectory(seen: Captured) -> None:
    with imitrace.trajectory(id="ticket-7"):
        headers = dict(imitrace.inject()) | {"authorization": "Bearer sk"}
    found = naming([(name.encode(), value.encode()) for name, value in headers.items()], None, {})
    assert "authorization" not in (found.joins or {})


@given(
    headers=st.dictionaries(st.sampled_from(["x-imitrace-tags", "baggage", "traceparent"]), st.text()), body=st.text()
)
def test_any_header_and_any_metadata_is_read(headers: dict[str, str], body: str) -> None:
    pairs = [(name.encode(), value.encode("utf-8", "replace")) for name, value in headers.items()]
    assert isinstance(naming(pairs, {"imitrace_x": body, "imitrace_task": None}, {}), Naming)
