# The service and its models, without the machine learning that made them.
#   docker build -t metaplastic . && docker run --rm --read-only -p 5000:5000 metaplastic
# tests/e2e/test_container.py carries these steps out where there is no Docker.

FROM python:3.11-slim AS build
WORKDIR /build
COPY requirements-serve.txt constraints.txt ./
# pip stays in this stage: it installs into the environment from outside. Bytecode is made once,
# here, and never checked against its source again: neither can change in an image.
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /opt/venv \
    && python -m pip --python /opt/venv/bin/python install --no-compile -r requirements-serve.txt \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/venv

FROM python:3.11-slim
LABEL org.opencontainers.image.title="Metaplastic" \
      org.opencontainers.image.description="Image classifiers that learn with brain-inspired rules, as a REST service" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT"
# A container is reached from outside it, so not on the loopback interface; and it calls nobody.
ENV PATH=/opt/venv/bin:$PATH \
    METAPLASTIC_HOST=0.0.0.0 \
    ORT_DISABLE_TELEMETRY=1
WORKDIR /app
# What changes least comes first. Which files these folders bring is in .dockerignore; they stay
# root's, and are readable to others whatever the umask of the checkout was.
COPY --from=build /opt/venv /opt/venv
COPY --chmod=755 weights weights
COPY --chmod=755 models models
COPY --chmod=755 app app
COPY --chmod=755 wsgi.py wsgi.py
# The base image has no bytecode of the standard library, and a read-only container cannot keep
# any: loading the service once makes what it needs, and stops the build where a module or a model
# is missing or broken.
RUN python -m compileall -q --invalidation-mode unchecked-hash . \
    && python -c "import app.server.main; app.create_app()"
# Nothing is written from here on.
ENV PYTHONDONTWRITEBYTECODE=1
# A number, so that an orchestrator can see that it is not root.
USER 10001:10001
EXPOSE 5000
STOPSIGNAL SIGTERM
# Ready, not merely alive; past any proxy that the variables of the container name.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open(f\"http://127.0.0.1:{os.environ.get('METAPLASTIC_PORT') or os.environ.get('PORT') or 5000}/health/ready\", timeout=4)"]
CMD ["python", "wsgi.py"]
