"""From a user's options and an administrator's template to the configuration of a user endpoint."""
