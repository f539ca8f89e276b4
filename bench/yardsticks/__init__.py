"""The programs that the sidecar is measured against; each one terminates mutual TLS and relays plaintext."""
