"""The client of the root process."""
