"""What administrators write: the keys of the configuration files, the endpoint's folder, the broker's own state."""
