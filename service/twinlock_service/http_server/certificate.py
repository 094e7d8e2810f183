"""TLS by a certificate of the site's: checked before it is used, and loaded again when it has been renewed."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import stat
from pathlib import Path

from twinlock_service.errors import StartError

log = logging.getLogger(__name__)

POLL = 1.0
"""Seconds between looks at the two files."""


class Certificate:
    """A certificate, with the chain that leads to it, and its key; PEM files."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Read and check the two files. Raise `StartError`, which says what is wrong, if they can't be used."""
        self._files = (certificate, key)
        self._seen = self._stamp()
        self.context = _checked(certificate, key)
        """What new connections use."""

    async def follow(self) -> None:
        """Watch the two files and, when they change, use them for new connections if they are good. Never return."""
        while True:
            await asyncio.sleep(POLL)
            last, self._seen = self._seen, self._stamp()
            if last != self._seen:
                self._reload()

    def _reload(self) -> None:
        try:
            # In a context of its own first: one that fails would leave the one in use with half of each.
            _checked(*self._files)
            self.context.load_cert_chain(*self._files)
        except (StartError, OSError) as error:
            log.error("%s; the previous certificate stays in use", error)
        else:
            log.info("the certificate %s is in use as it is now", self._files[0])

    def _stamp(self) -> list[tuple[int, int] | None]:
        return [_stamp(file) for file in self._files]


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _checked(certificate: Path, key: Path) -> ssl.SSLContext:
    for file in (certificate, key):
        _check_readable(file)
    if stat.S_IMODE(key.stat().st_mode) & 0o027:
        raise StartError(os.EX_NOPERM, f"tls_key {key} is a secret but is open to others; run `chmod 600 {key}`")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except ssl.SSLError as error:
        raise StartError(os.EX_DATAERR, _why_unusable(certificate, key, error)) from None
    _check_valid(context, certificate)
    return context


def _check_readable(file: Path) -> None:
    try:
        file.open("rb").close()
    except OSError as error:
        code = os.EX_NOPERM if isinstance(error, PermissionError) else os.EX_NOINPUT
        raise StartError(code, f"{file}, named by the users file for TLS: {error.strerror}") from None


def _no_passphrase() -> str:
    raise StartError(os.EX_DATAERR, "tls_key has a passphrase, which nobody could enter; `openssl pkey` removes it")


def _why_unusable(certificate: Path, key: Path, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"tls_key {key} doesn't belong to tls_certificate {certificate}; name the key that it was made with"
    return f"tls_certificate {certificate} and tls_key {key} have to be PEM files, the certificate's chain included"


def _check_valid(context: ssl.SSLContext, certificate: Path) -> None:
    """Raise `StartError` if clients that trust the issuer would refuse the certificate: expired, or not for servers."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(certificate)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(to_client, to_server), context.wrap_bio(to_server, to_client, server_side=True))
    try:
        for end in (ends[0], ends[1], ends[0]):
            _shake_hands(end)
    except ssl.SSLCertVerificationError as error:
        text = f"clients would refuse tls_certificate {certificate}: {error.verify_message}; get another one"
        raise StartError(os.EX_DATAERR, text) from None


def _shake_hands(end: ssl.SSLObject) -> None:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return
