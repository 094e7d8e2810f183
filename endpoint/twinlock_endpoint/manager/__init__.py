"""What passes between this endpoint and its manager endpoint, and what both tell the service about it: heartbeats."""
