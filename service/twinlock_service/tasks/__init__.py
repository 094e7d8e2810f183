"""A task's way: from the SDK's submission to an endpoint's queue, and from its result back to the SDK."""
