"""The user endpoints: from a command to a start, and their life as the broker sees it."""
