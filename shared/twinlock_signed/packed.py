"""Values that the SDK's serializer has packed, in fewer bytes.

The SDK breaks the lines of its base64. Signed work is JSON within JSON within JSON, where each line end takes five
bytes; Python's decoder, with which the SDK reads base64, needs none of them.
"""

_DILL_DATA = "00\n"
"""How a text begins that the SDK's strategy `DillDataBase64` has made."""


def without_line_ends(packed: str) -> str:
    """Return a packed value as the SDK reads it, without the line ends of its base64, if it is that."""
    if not packed.startswith(_DILL_DATA):
        return packed
    return _DILL_DATA + packed[len(_DILL_DATA) :].replace("\n", "")
