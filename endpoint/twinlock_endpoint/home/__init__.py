"""The endpoint's folder in the user's home, its log there, and what may be in the way of either."""
