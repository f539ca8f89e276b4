"""BoringSSL for mtls-sidecar (proxy/tls/boring*.py): the extension module's two faces, and which BoringSSL it is."""

from mtls_sidecar_boringssl._boringssl import ffi, lib

# Of src/interface.h. Whoever changes a declaration raises it, here and in proxy/tls/engine.py, which compares the two.
INTERFACE = 2
VERSION: str = ffi.string(lib.bs_version()).decode("ascii")

__all__ = ["INTERFACE", "VERSION", "ffi", "lib"]
