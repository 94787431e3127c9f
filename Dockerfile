# The server with its model inside. Build: docker build -t rill . (or podman, buildah). Run: see docs/install.md.
FROM python:3.13-slim-bookworm AS build
WORKDIR /source
COPY . .
RUN python -m venv /opt/rill && /opt/rill/bin/pip install --no-cache-dir '.[serve]' \
    && /opt/rill/bin/pip uninstall --yes pip \
    && find /opt/rill -name __pycache__ -prune -exec rm -rf {} +

FROM python:3.13-slim-bookworm
LABEL org.opencontainers.image.title="Rill" \
    org.opencontainers.image.description="Live speech recognition on an ordinary CPU" \
    org.opencontainers.image.licenses="Apache-2.0"
# A user without a home or a shell. Decoding graphs are kept in the cache, which may be a volume.
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin rill \
    && install -d -o rill -g rill /var/cache/rill /var/lib/rill
COPY --from=build /opt/rill /opt/rill
ENV PATH=/opt/rill/bin:$PATH RILL_CACHE=/var/cache/rill RILL_DATA=/var/lib/rill \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
# The decoding graph is compiled now, so that the first start is as quick as later ones.
RUN ["asr", "doctor", "--quick"]
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["asr"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
