"""The findings of a check, and the table of its subjects, from which help, manual and output are made."""

import contextlib
import enum
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

_SOON = 1.0
"""Seconds after which a person who waits is told what is going on."""


class Kind(enum.StrEnum):
    """What a check can find; the values are those of ``--json``."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"
    UNKNOWN = "not looked at"


class Subject(enum.StrEnum):
    """What is checked; the values are those of ``--json``."""

    CONFIG = "config"
    FILES = "files"
    MAPPING = "mapping"
    IDENTITY = "identity"
    RENDERING = "rendering"
    ENDPOINT = "endpoint"
    REGISTRATION = "registration"
    LOGIN = "login"
    SERVICE = "service"
    BROKER = "broker"
    POLICY = "policy"
    SPAWNERS = "spawners"
    MODE = "mode"
    VERIFIED = "verified"


MEANINGS = {
    Subject.CONFIG: "keys and values of config.yaml",
    Subject.FILES: "template, schema, environment and the files that config.yaml names: there, and readable; only the "
    "broker's group can read user_environment.yaml",
    Subject.MAPPING: "the identity mapping can be read, and is no longer the sample",
    Subject.IDENTITY: "each --identity is mapped to an account that exists on this host and that the policy lets in",
    Subject.RENDERING: "the template renders with --options, or with sample options from the schema; with each option "
    "left out; with each other choice of an enum or boolean",
    Subject.ENDPOINT: "the endpoint's own loader accepts each rendering, with the variables of user_environment.yaml; "
    "in verified mode that of endpoint_dir, without what only the broker could say, and users can read it, the signers "
    "and the revoked keys",
    Subject.REGISTRATION: "the uuid in endpoint.json, in the broker's state folder or in the endpoint folder",
    Subject.LOGIN: "there is a login, the installed client's or as twinlock-broker finds it, which Globus Auth accepts",
    Subject.SERVICE: "the service knows the registered endpoint as that login's",
    Subject.BROKER: "keys and values of the broker.yaml that names the folder; its groups exist, and its socket is "
    "that of the policy",
    Subject.POLICY: "twinlock-spawner --check accepts the policy, which has the program that the broker asks for",
    Subject.SPAWNERS: "no other policy beside it, or of an instance, has the same socket, cgroup or audit log",
    Subject.MODE: "in which mode each program of the policy runs, plain or verified; no policy of this host (beside "
    "this one, in /etc/twinlock, or of a spawner's systemd unit) has a plain program for accounts of a verified one",
    Subject.VERIFIED: "the verified.toml of each verified program, by the endpoint's own rules, and that it fits the "
    "registration, the broker and the policy; OpenSSH 8.9 or later; that the host isn't in FIPS mode",
}
"""What is checked, for people."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    kind: Kind
    subject: Subject
    text: str
    """For people: what is so, and for a failure what to do."""


def ok(subject: Subject, text: str) -> Finding:
    """Return the finding that all is well."""
    return Finding(Kind.OK, subject, text)


def warning(subject: Subject, text: str) -> Finding:
    """Return the finding that something works, but may not be what was meant."""
    return Finding(Kind.WARNING, subject, text)


def failure(subject: Subject, text: str) -> Finding:
    """Return the finding that something would fail."""
    return Finding(Kind.FAILURE, subject, text)


def unknown(subject: Subject, text: str) -> Finding:
    """Return the finding that something couldn't be checked; `text` says why."""
    return Finding(Kind.UNKNOWN, subject, text)


@contextlib.contextmanager
def patience(what: str) -> Iterator[None]:
    """Say on standard error what is going on, if the block takes longer than a second."""
    timer = threading.Timer(_SOON, lambda: print(f"... {what}", file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
