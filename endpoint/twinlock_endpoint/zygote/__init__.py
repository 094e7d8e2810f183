"""The zygote: a small process that has everything loaded, and from which the endpoint's helpers are forked.

It knows nothing of Parsl: what it runs comes with the request.
"""
