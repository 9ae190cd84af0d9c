"""TLS for what arrives and for what is sent."""

from __future__ import annotations

import ssl

from fvv.config import ListenConfig
from fvv.errors import ConfigError


def tls_context(config: ListenConfig, *, server: bool) -> ssl.SSLContext | None:
    """TLS as PS3.15 B.12 (BCP 195) asks: version 1.2 or later, and with authorities both sides prove who they are.

    Raises:
        ConfigError: a file is missing or holds no certificate or key.
    """
    if not (config.tls_certificate if server else config.send_tls):
        return None
    purpose = ssl.Purpose.CLIENT_AUTH if server else ssl.Purpose.SERVER_AUTH
    try:
        context = ssl.create_default_context(purpose, cafile=config.tls_authorities or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if config.tls_certificate:
            context.load_cert_chain(config.tls_certificate, config.tls_key or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"TLS cannot be set up: {error}", hint="name PEM files with listen.tls_*") from error
    if server and config.tls_authorities:
        context.verify_mode = ssl.CERT_REQUIRED
    return context
