"""BoringSSL for mtls-sidecar (proxy/tls/boring*.py): the extension module's two faces, and which BoringSSL it is."""

from mtls_sidecar_boringssl._boringssl import ffi, lib

VERSION: str = ffi.string(lib.bs_version()).decode("ascii")

__all__ = ["VERSION", "ffi", "lib"]
