"""Both of msgpack's decoders."""

from collections.abc import Iterator

import msgpack
import pytest


@pytest.fixture(autouse=True, scope="module", params=["fallback", "_cmsgpack"])
def decoder(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each of msgpack's two: root uses the one in Python, the broker may use the one in C."""
    module = pytest.importorskip(f"msgpack.{request.param}", reason="msgpack has no decoder in C here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(msgpack, "unpackb", module.unpackb)
        patch.setattr(msgpack, "Packer", module.Packer)
        yield
