"""The rendering of a user endpoint's configuration, from the user's options and the administrator's template."""
