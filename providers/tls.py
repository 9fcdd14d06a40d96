"""Whom an upstream's certificate is checked against, and which certificate we show it."""

from __future__ import annotations

import ssl


def context(*, verify: bool, ca_file: str | None, client_certificate: str | None) -> ssl.SSLContext:
    """The system's authorities or those of `ca_file`. `client_certificate` is a PEM file with certificate and key.

    Raises `OSError` (`ssl.SSLError` is one) when a file cannot be read.
    """
    made = ssl.create_default_context(cafile=ca_file)
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    if client_certificate:
        made.load_cert_chain(client_certificate)
    return made
