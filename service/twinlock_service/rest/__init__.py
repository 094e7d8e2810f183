"""The REST calls of the SDK, the agents and the broker, and those of Globus Auth that they make."""
