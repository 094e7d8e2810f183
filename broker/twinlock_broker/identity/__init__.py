"""The identity mapping: from the identities in a command to a local account."""
