# The operator's image. Not the engine's: vLLM comes from its own images.
#
# The base is named by tag. To pin it, append the digest that your registry shows for that tag, here
# and below: python:3.12-slim-bookworm@sha256:… Everything from PyPI is pinned by hash already.
FROM python:3.12-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1
WORKDIR /src

# Two environments: what builds the wheel does not come along.
RUN python -m venv /build && python -m venv --without-pip /venv

COPY requirements.txt requirements-build.txt ./
RUN /build/bin/pip install --require-hashes --only-binary :all: --requirement requirements-build.txt \
 && /build/bin/pip --python /venv install --require-hashes --only-binary :all: --requirement requirements.txt

COPY pyproject.toml README.md LICENSE ./
COPY operator operator
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /build/bin/pip --python /venv install --no-deps --no-index --find-links /wheels vllm-operator \
 && /venv/bin/python -m compileall -q /venv/lib


FROM python:3.12-slim-bookworm

LABEL org.opencontainers.image.title="vllm-operator" \
      org.opencontainers.image.description="A Kubernetes operator that runs vLLM model servers" \
      org.opencontainers.image.licenses="Apache-2.0"

COPY --from=build /venv /venv

# The root file system may be read-only: nothing is written outside /tmp, not even byte code.
ENV PATH=/venv/bin:$PATH \
    HOME=/tmp \
    HF_HOME=/tmp/huggingface \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

# By number, so that runAsNonRoot can be checked without looking into the image.
USER 65532:65532
WORKDIR /tmp
EXPOSE 8080
ENTRYPOINT ["vllm-operator"]
CMD ["run"]
