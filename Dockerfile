# syntax=docker/dockerfile:1
# mtls-sidecar as images of nothing but what they run: no shell, no package manager, no compiler.
#
#   docker build --tag mtls-sidecar:0.1.0 .                                   the sidecar, and the Pod's packet rules
#   docker build --tag mtls-sidecar-tools:0.1.0 --target tools .              with inject, webhook, bench and report's bar
#
#   docker run --read-only --cap-drop ALL --volume ./sidecar.yaml:/etc/mtls-sidecar/config.yaml:ro \
#       --volume /run/svid:/run/svid:ro mtls-sidecar:0.1.0
#
# docs/image.md says what is in them, how large they are, and how an SBOM is made.
ARG PYTHON=python:3.13-slim-bookworm

# The wheels beside the lock: the BoringSSL engine, which `tls.engine: auto` then takes. Two minutes on two cores. A file
# of its own in engine/ pins the source by hash; the compiler stays here.
FROM ${PYTHON} AS wheels
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends clang g++ && rm -rf /var/lib/apt/lists/*
COPY requirements/run.txt /src/requirements/run.txt
RUN python -m pip install --require-hashes --requirement /src/requirements/run.txt
COPY engine /src/engine
RUN python /src/engine/boringssl.py \
    && python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels /src/engine

FROM ${PYTHON} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# nft is the one program beside Python: the init container of an intercepted Pod runs it, from this same image, so that
# a Pod pulls one image and its rules are of the sidecar's version. Without capabilities, as the sidecar, it can do nothing.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends nftables && rm -rf /var/lib/apt/lists/*
# Without pip inside: what serves beside every workload holds no installer.
RUN python -m venv --without-pip /opt/mtls-sidecar
# The lock before the source, so that a change of the source does not install the dependencies again.
COPY requirements/run.txt /src/requirements/run.txt
RUN python -m pip --python /opt/mtls-sidecar/bin/python install --require-hashes --requirement /src/requirements/run.txt
COPY pyproject.toml README.md LICENSE /src/
COPY proxy /src/proxy
COPY --from=wheels /wheels /wheels
# No build isolation: setuptools comes from the lock, and goes when it has done its work.
RUN python -m pip --python /opt/mtls-sidecar/bin/python install --no-deps --no-build-isolation /src \
    && find /wheels -name '*.whl' -exec python -m pip --python /opt/mtls-sidecar/bin/python install --no-deps {} + \
    && python -m pip --python /opt/mtls-sidecar/bin/python uninstall --yes setuptools
COPY deploy/image/assemble.py /src/assemble.py
RUN python /src/assemble.py --environment /opt/mtls-sidecar --target /rootfs

FROM build AS build-tools
COPY requirements/tools.txt /src/requirements/tools.txt
RUN python -m pip --python /opt/mtls-sidecar/bin/python install --require-hashes --requirement /src/requirements/tools.txt \
    && python -m pip --python /opt/mtls-sidecar/bin/python uninstall --yes setuptools \
    && python /src/assemble.py --environment /opt/mtls-sidecar --target /rootfs-tools

FROM scratch AS tools
LABEL org.opencontainers.image.title="mtls-sidecar-tools" \
      org.opencontainers.image.description="mtls-sidecar with what inject, webhook, bench and loadtest need" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build-tools /rootfs-tools /
ENV PATH=/opt/mtls-sidecar/bin:/usr/sbin:/usr/bin PYTHONDONTWRITEBYTECODE=1 LANG=C.UTF-8 MPLCONFIGDIR=/tmp
USER 1337:1337
ENTRYPOINT ["/opt/mtls-sidecar/bin/mtls-sidecar"]
CMD ["--help"]

# The last stage is what `docker build` makes by itself.
FROM scratch AS sidecar
LABEL org.opencontainers.image.title="mtls-sidecar" \
      org.opencontainers.image.description="A mutual-TLS sidecar proxy that explains every refusal" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /rootfs /
ENV PATH=/opt/mtls-sidecar/bin:/usr/sbin:/usr/bin PYTHONDONTWRITEBYTECODE=1 LANG=C.UTF-8
# The uid that service meshes use for their proxies: rules that spare the proxy's own traffic go by it. A number,
# because Kubernetes cannot tell that a name is not root (runAsNonRoot).
USER 1337:1337
# For engines that look here (Kubernetes does not). It asks the admin listener at its default address: with another
# `admin.listen`, or with `admin: null`, give a --health-cmd of your own, or --no-healthcheck.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["/opt/mtls-sidecar/bin/python", "-I", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 15000, timeout=2); c.request('GET', '/ready'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["/opt/mtls-sidecar/bin/mtls-sidecar"]
CMD ["run", "--config", "/etc/mtls-sidecar/config.yaml"]
