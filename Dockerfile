# The operator's image. Not the engine's: vLLM comes from its own images.
#
# Both stages have the same base: a mirror's, or one that is pinned by its digest, is given by
# --build-arg PYTHON_IMAGE=…/python:3.12-slim-bookworm@sha256:… It needs Python 3.11 or newer, with
# venv. Everything from PyPI is pinned by hash.
ARG PYTHON_IMAGE=python:3.12-slim-bookworm
FROM ${PYTHON_IMAGE} AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src

# Two environments: what builds the wheel does not come along.
RUN python -m venv /build && python -m venv --without-pip /venv

COPY requirements.txt requirements-build.txt ./
RUN /build/bin/pip install --no-compile --require-hashes --only-binary :all: \
      --requirement requirements-build.txt \
 && /build/bin/pip --python /venv install --no-compile --require-hashes --only-binary :all: \
      --requirement requirements.txt

COPY pyproject.toml README.md LICENSE ./
COPY operator operator
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /build/bin/pip --python /venv install --no-compile --no-deps --no-index --find-links /wheels \
      vllm-operator

# More than half of it is never imported. The second run proves that what is left is enough, and
# leaves byte code.
COPY tools/images/prune.py ./
RUN /venv/bin/python -PB prune.py \
 && PYTHONPYCACHEPREFIX=/venv/bytecode /venv/bin/python -PB prune.py check


FROM ${PYTHON_IMAGE}

LABEL org.opencontainers.image.title="vllm-operator" \
      org.opencontainers.image.description="A Kubernetes operator that runs vLLM model servers" \
      org.opencontainers.image.licenses="Apache-2.0"

COPY --from=build /venv /venv

# The root file system may be read-only: nothing is written outside /tmp, not even byte code.
ENV PATH=/venv/bin:$PATH \
    HOME=/tmp \
    HF_HOME=/tmp/huggingface \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPYCACHEPREFIX=/venv/bytecode \
    PYTHONUNBUFFERED=1

# By number, so that runAsNonRoot can be checked without looking into the image. Any other user and
# group does as well: nobody owns anything in it.
USER 65532:65532
WORKDIR /tmp
EXPOSE 8080
ENTRYPOINT ["vllm-operator"]
CMD ["run"]
