"""Whatever comes of others: it is refused in words, or what is read of it is sound. See signed_decoders."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from signed_decoders import CHECKS, corpus

EXAMPLES = [(name, path) for name in CHECKS for path in corpus(name)]

WORDS = st.sampled_from(
    [
        *(b'"', b"\\", b"\\u00", b"\\ud800", b"{", b"}", b"[", b"]", b":", b",", b"null", b"NaN", b"1e999", b"-0.0"),
        *(b"11\n", b"999", b"\x00", b"\x01", b"\xff", b"\n", b"\r", b" ", b"#", b"=", b"before ", b"cert-authority"),
    ]
)


@st.composite
def nearly(draw: st.DrawFn, name: str) -> bytes:
    """An example of a check with some changes."""
    data = draw(st.sampled_from([*corpus(name).values()]))
    for _ in range(draw(st.integers(1, 4))):
        at, left_out = draw(st.integers(0, len(data))), draw(st.integers(0, 9))
        data = data[:at] + draw(WORDS | st.binary(max_size=4)) + data[at + left_out :]
    return data


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=map("-".join, EXAMPLES))
def test_an_example_is_what_it_is_called(name: str, example: str) -> None:
    assert CHECKS[name](corpus(name)[example]) == example.startswith("good-")


@pytest.mark.parametrize("name", CHECKS)
@given(st.data())
def test_what_is_nearly_an_example(name: str, data: st.DataObject) -> None:
    CHECKS[name](data.draw(nearly(name)))


@pytest.mark.parametrize("name", CHECKS)
@given(data=st.binary(max_size=300))
def test_any_bytes(name: str, data: bytes) -> None:
    CHECKS[name](data)
