"""A serializer for what the service knows: it packs JSON and source text, and reads JSON alone."""

from typing import Any

from globus_compute_sdk.serialize import ComputeSerializer, JSONData, PureSourceTextInspect

from twinlock_client.results import json_only


class TextSerializer(ComputeSerializer):  # type: ignore[misc]  # the SDK has no types
    """Packs what travels in the open. Whatever comes back can only be data."""

    def __init__(self) -> None:
        super().__init__(strategy_code=PureSourceTextInspect(), strategy_data=JSONData())

    def deserialize(self, payload: str) -> Any:
        """Return what JSON says. Raise `ResultRefused` for every other strategy: some of them run code."""
        return json_only(payload)
