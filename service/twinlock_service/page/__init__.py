"""The status page for browsers, and the login to it."""
