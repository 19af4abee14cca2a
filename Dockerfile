# syntax=docker/dockerfile:1.7
# Two images from one file:
#   docker build --target operator -t ghcr.io/kaito-ray/operator:0.1.0 .
#   docker build --target worker   -t ghcr.io/kaito-ray/worker:0.1.0 .
# tests/wheel/test_dockerfile.py runs the operator's steps in a fresh environment, resolves the worker's packages, and
# runs its HAProxy wrapper. The images themselves are built by nobody yet: docs/install.md.

# The operator: no Ray, no torch.
FROM python:3.11-slim-bookworm AS operator-build
WORKDIR /src
RUN python -m venv /opt/kaito-ray
COPY pyproject.toml README.md LICENSE requirements.lock ./
# The lock's versions, of which pip takes those that the operator needs.
RUN sed -E '/^ +(--hash|#)/d; s/ *\\$//' requirements.lock > versions.txt
COPY kaito_ray kaito_ray
COPY deployments deployments
COPY tuning tuning
COPY presets presets
COPY examples examples
RUN --mount=type=cache,target=/root/.cache/pip /opt/kaito-ray/bin/pip install --disable-pip-version-check -c versions.txt .
RUN cd / && /opt/kaito-ray/bin/python -m kaito_ray.controller --help

FROM python:3.11-slim-bookworm AS operator
COPY --from=operator-build /opt/kaito-ray /opt/kaito-ray
ENV PATH=/opt/kaito-ray/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["python", "-m", "kaito_ray.controller"]

# The worker: Ray's image with its LLM libraries (vLLM, CUDA), and our code. KubeRay starts it by `bash` and `ray`.
FROM rayproject/ray-llm:2.60.0-py311-cu130 AS worker
WORKDIR /home/ray/kaito-ray
COPY --chown=ray:users pyproject.toml README.md LICENSE ./
COPY --chown=ray:users kaito_ray kaito_ray
COPY --chown=ray:users deployments deployments
COPY --chown=ray:users tuning tuning
COPY --chown=ray:users presets presets
COPY --chown=ray:users examples examples
RUN pip install --no-cache-dir ".[gpu,tuning]"
# HAProxy as Serve shall start it. -dS turns splicing off: with it, HAProxy 2.8 does not notice that a client has left a
# connection that served an earlier request, spins on it, and the engine generates to the end (docs/adr/0004). Its metrics
# and statistics pages, for which Serve has no setting, are narrowed to the pod. It waits for the body, as it can send a
# request whose replica died again only if it had all of it.
COPY --chmod=0755 <<'WRAPPER' /usr/local/bin/kaito-ray-haproxy
#!/bin/sh
for argument in "$@"; do
  if [ "$previous" = "-f" ]; then
    sed -i -E 's/^( *bind) (\*|):([0-9]+)/\1 127.0.0.1:\3/; s/^( *stats socket .*) mode 666 /\1 mode 600 /
      s/^defaults$/&\n    option http-buffer-request\n    timeout http-request 30s/' "$argument" || exit 1
  fi
  previous=$argument
done
exec "$(python -c 'import pathlib, ray_haproxy; print(pathlib.Path(ray_haproxy.__file__).parent / "bin" / "haproxy")')" -dS "$@"
WRAPPER
ENV RAY_SERVE_HAPROXY_BINARY_PATH=/usr/local/bin/kaito-ray-haproxy RAY_LOG_TO_STDERR=1
WORKDIR /home/ray
USER 1000:100
