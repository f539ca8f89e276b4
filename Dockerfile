# mtls-sidecar as a container: a virtual environment built from the hash lock, on a slim Debian Python.
#
#   docker build --tag mtls-sidecar .
#   docker run --volume ./sidecar.yaml:/etc/mtls-sidecar/config.yaml:ro --volume /run/svid:/run/svid:ro mtls-sidecar
#
# Both stages take the same image: a virtual environment names the interpreter that it was made with.
ARG PYTHON=python:3.13-slim-bookworm

FROM ${PYTHON} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# Without pip inside: what serves beside every workload holds no installer.
RUN python -m venv --without-pip /opt/mtls-sidecar
# The lock before the source, so that a change of the source does not install the dependencies again.
COPY requirements/run.txt /src/requirements/run.txt
RUN python -m pip --python /opt/mtls-sidecar/bin/python install --require-hashes --requirement /src/requirements/run.txt
COPY pyproject.toml README.md LICENSE /src/
COPY proxy /src/proxy
# No build isolation: setuptools comes from the lock, and goes when it has done its work.
RUN python -m pip --python /opt/mtls-sidecar/bin/python install --no-deps --no-build-isolation /src
RUN python -m pip --python /opt/mtls-sidecar/bin/python uninstall --yes setuptools

FROM ${PYTHON}
LABEL org.opencontainers.image.title="mtls-sidecar" \
      org.opencontainers.image.description="A mutual-TLS sidecar proxy that explains every refusal" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/mtls-sidecar /opt/mtls-sidecar
ENV PATH=/opt/mtls-sidecar/bin:$PATH PYTHONDONTWRITEBYTECODE=1
# The uid that service meshes use for their proxies: rules that spare the proxy's own traffic go by it. A number,
# because Kubernetes cannot tell that a name is not root (runAsNonRoot).
USER 1337:1337
# For engines that look here (Kubernetes does not). It asks the admin listener at its default address: with another
# `admin.listen`, or with `admin: null`, give a --health-cmd of your own, or --no-healthcheck.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["/opt/mtls-sidecar/bin/python", "-I", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 15000, timeout=2); c.request('GET', '/ready'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["/opt/mtls-sidecar/bin/mtls-sidecar"]
CMD ["run", "--config", "/etc/mtls-sidecar/config.yaml"]
