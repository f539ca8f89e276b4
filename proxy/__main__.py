"""`python -m proxy` and the console script `mtls-sidecar`: both are cli/main.py."""

from proxy.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
