"""The fixtures of the end-to-end tests serve here as well."""

from tests.e2e.conftest import pki, start_app

__all__ = ["pki", "start_app"]
