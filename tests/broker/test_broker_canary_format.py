"""The canary's payloads are those of the official SDK, which the broker doesn't have."""

from typing import Any

from globus_compute_sdk.sdk.batch import Batch, create_user_runtime
from globus_compute_sdk.serialize import ComputeSerializer, JSONData, PureSourceTextInspect
from twinlock_broker.canary import payload

FUNCTION = "7b1f2f6e-0000-4000-8000-00000000f00d"
SDK = ComputeSerializer(strategy_code=PureSourceTextInspect(), strategy_data=JSONData())


def shape(value: Any) -> Any:
    """The keys of a document, at all depths."""
    return {name: shape(part) for name, part in value.items()} if isinstance(value, dict) else type(value)


def test_the_sdk_reads_the_function() -> None:
    (code,) = SDK.unpack_buffers(payload.function()["function_code"])
    assert code.startswith(PureSourceTextInspect.identifier)
    function = SDK.deserialize(code)
    assert (function.__name__, function("a word")) == (payload.NAME, "a word")
    assert payload.function()["function_name"] == payload.NAME


def test_a_submission_is_what_the_sdk_would_submit() -> None:
    batch = Batch(
        None,
        user_endpoint_config={"a": 1},
        serializer=SDK,
        user_runtime=create_user_runtime(),
        result_serializers=["globus_compute_sdk.serialize.JSONData"],
    )
    batch.add(FUNCTION, ["a word"], {})
    theirs, ours = batch.prepare(), payload.submission(FUNCTION, "a word", {"a": 1})
    assert shape(ours) == shape(theirs)
    assert {**ours, "user_runtime": 0} == {**theirs, "user_runtime": 0}


def test_what_the_sdk_makes_of_the_result_is_the_result() -> None:
    assert payload.is_result(ComputeSerializer.serialize_from_list("a word", payload.RESULT_SERIALIZERS), "a word")
    assert not payload.is_result(ComputeSerializer().serialize("a word"), "a word"), "a pickle"
