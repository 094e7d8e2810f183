"""What a user does with results, in a Python that has the SDK and nothing of ours.

Reads a JSON object of results by name and prints one of their values, called with 21 where they can be called.
"""

import json
import sys

from globus_compute_sdk.serialize import ComputeSerializer


def main() -> None:
    seen = {}
    for name, data in json.load(sys.stdin).items():
        try:
            value = ComputeSerializer().deserialize(data)
            seen[name] = value(21) if callable(value) else value
        except Exception as error:
            seen[name] = repr(error)
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
