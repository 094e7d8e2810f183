"""The start document, of which only queues are taken, and whether tasks are audited and batch jobs marked."""

from dataclasses import replace

from twinlock_common.document import Document

from twinlock_endpoint.verified import queues
from twinlock_endpoint.verified.site import Site


def believed(told: Document, site: Site, environment: dict[str, str]) -> Document:
    """Return the document with what root says in place of what the manager endpoint says.

    An audit is still kept if the manager endpoint wants one: it could write none as well. Batch jobs are marked if it
    wants that, with what is known here. Raise `DocumentError` for queues that root doesn't allow.
    """
    return replace(
        told,
        queues=queues.only(told.queues, site.settings.amqp_hosts),
        config="",
        info={},
        allowed_functions=None,
        environment=environment,
        restarted=False,
        control=str(site.settings.control),
        shared_fd=None,
        shared_key="",
        audit_fd=None,
    )
