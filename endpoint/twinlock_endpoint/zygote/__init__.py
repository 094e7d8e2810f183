"""The zygote: a small process that has everything loaded, and from which the endpoint's helpers are forked."""
