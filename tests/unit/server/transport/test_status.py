"""Laws of errors in trailers: they fit whatever they repeat, and what is cut off is the end."""

from __future__ import annotations

import base64
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from entropyd.contract.errors import (
    CorruptStringError,
    EntropydError,
    InvalidConfigError,
    OverloadedError,
    Violation,
    to_status,
)
from entropyd_server.transport.status import fitted, render

REQUEST_ID = "r" * 64
# Short ones of any kind, repeated: long ones would take long to draw.
TEXT = st.builds(lambda text, times: text * times, st.text(max_size=20), st.sampled_from([1, 10, 1000]))
VIOLATIONS = st.builds(
    lambda drawn, times: drawn * times,
    st.lists(st.builds(Violation, TEXT, TEXT), max_size=3),
    st.sampled_from([1, 10, 1000]),
)
ERRORS = st.builds(
    InvalidConfigError,
    TEXT,
    metadata=st.dictionaries(st.sampled_from(["limit", "value", "scopes"]), TEXT),
    violations=VIOLATIONS,
)


def sent_bytes(error: EntropydError) -> int:
    details = base64.b64encode(render(error, REQUEST_ID))
    message = quote(error.message, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")
    return len(details) + len(message) + len(REQUEST_ID)


@given(ERRORS)
def test_any_error_fits_into_trailers_and_is_otherwise_as_it_was(error: EntropydError) -> None:
    fit = fitted(error)
    assert sent_bytes(fit) < 4096 - 200  # names of fields, and what HTTP/2 adds to each
    assert (type(fit), fit.reason) == (type(error), error.reason)
    for old, new in zip(error.violations, fit.violations, strict=False):
        assert (
            new.field == "..." or new == old or new.description.endswith("...") or new.field.endswith("...")
        )


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.integers(0, 3))
def test_an_error_of_usual_size_is_left_alone(text: str, count: int) -> None:
    error = InvalidConfigError(text, metadata={"limit": text}, violations=[Violation("f", text)] * count)
    assert fitted(error) is error


def test_of_many_units_the_first_are_named_and_all_are_counted() -> None:
    violations = [Violation("strings", f"coding unit {unit} is damaged") for unit in range(1000)]
    error = fitted(CorruptStringError("damaged", units=range(1000), violations=violations))
    assert error.violations[:3] == tuple(violations[:3])
    kept = len(error.violations) - 1
    assert error.violations[-1] == Violation("...", f"and {1000 - kept} more")
    told = [int(unit) for unit in error.metadata["units"].split(",")]
    assert told == list(range(len(told)))
    assert 20 < len(told) < 1000


def test_text_that_is_no_unicode_is_told_in_escapes() -> None:
    error = fitted(InvalidConfigError("prior \ud800", violations=[Violation("prior.\udfff", "is unknown")]))
    assert error.message == "prior \\ud800"
    to_status(error).SerializeToString()


def test_refusals_of_load_are_rendered_as_they_are() -> None:
    error = OverloadedError("64 calls are in flight", retry_after_s=0.5)
    assert fitted(error) is error
