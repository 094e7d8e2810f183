"""The demonstration of signed work: users with SSH keys, an endpoint in verified mode, and a hostile broker."""
