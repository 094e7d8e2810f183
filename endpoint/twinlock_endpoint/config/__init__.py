"""The configuration that an endpoint is given, and what is made of it."""
