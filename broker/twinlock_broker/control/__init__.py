"""The broker's own sockets: one for the user endpoints, one for the administrator."""
