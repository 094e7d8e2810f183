"""The endpoint itself: its parts, its states and what ends it."""
