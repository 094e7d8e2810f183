"""The subcommands of `twinlock-client`. Each has `add`, which describes its arguments, and `run`."""
