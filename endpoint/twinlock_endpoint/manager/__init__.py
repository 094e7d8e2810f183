"""The messages between this endpoint and its manager endpoint, and the heartbeats that it sends to the service."""
