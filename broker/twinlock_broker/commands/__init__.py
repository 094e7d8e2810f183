"""The command ``twinlock``, for administrators: a module for each subcommand, each with `add` and `run`."""
