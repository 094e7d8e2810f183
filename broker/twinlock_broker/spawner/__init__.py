"""The client of the spawner."""
