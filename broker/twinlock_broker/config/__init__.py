"""What administrators write: the keys of the configuration files, the endpoint folder; and the broker's own state."""
