"""The function that the service knows. Endpoints that verify signed work never run it; others run nothing else.

It goes as a text, so that each version of Python understands it.
"""

NAME = "signed_work"

SOURCE = '''\
def signed_work(delegation, delegation_signature, task, task_signature):
    """Twinlock's signed work: the arguments are what the user has signed. Only a verified endpoint reads them."""
    raise RuntimeError(
        "This endpoint doesn't verify signed work, so nothing was run. Submit with globus_compute_sdk.Executor, "
        "or to the site's verified endpoint; twinlock-client's documentation (docs/verified.md) says how"
    )
'''
