"""mtls-sidecar: a mutual-TLS sidecar proxy. The floors and what lives on each: docs/architecture.md."""

__version__ = "0.1.0"
