"""Packed values without line ends: the SDK reads them as before."""

import pytest
from globus_compute_sdk.serialize import ComputeSerializer, DillDataBase64, JSONData
from twinlock_signed.packed import without_line_ends


@pytest.mark.parametrize("value", [None, "x" * 5000, b"\n" * 5000, {"a": [1.5, "\n"]}, ()])
def test_the_sdk_reads_the_same_value(value: object) -> None:
    serializer = ComputeSerializer(strategy_data=DillDataBase64())
    packed = serializer.serialize(value)
    shorter = without_line_ends(packed)
    assert shorter.count("\n") == 1, "the one behind the strategy's name"
    assert serializer.deserialize(shorter) == value


@pytest.mark.parametrize(
    "packed", ["", "00", "x\ny\n", "04\ngASV\n", ComputeSerializer(strategy_data=JSONData()).serialize("a\nb")]
)
def test_what_is_no_base64_of_data_stays_as_it_is(packed: str) -> None:
    assert without_line_ends(packed) == packed
