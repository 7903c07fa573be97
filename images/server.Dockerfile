# The server: Litestar and vLLM. REQUIREMENTS=server-cuda (with SYSTEM_PACKAGES below) or server-cpu.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG REQUIREMENTS=server-cuda
ARG PIP_EXTRA_INDEX_URL=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python3 -m venv /venv
# Dependencies before source: a change of code rebuilds the last layers only.
COPY images/requirements/${REQUIREMENTS}.txt /requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,source=images/wheels,target=/wheels \
    /venv/bin/python -m pip install --quiet --no-deps --require-hashes --find-links /wheels -r /requirements.txt

FROM ${PYTHON_IMAGE}
# Triton and Inductor compile when the engine starts: on a GPU that needs a C++ compiler in the image.
ARG SYSTEM_PACKAGES="libnuma1 g++"
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends ${SYSTEM_PACKAGES} >/dev/null \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 whetstone \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin whetstone
COPY --from=build /venv /venv
COPY services /app/services
COPY config /app/config
RUN /venv/bin/python -m compileall -q /app/services
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp USER=whetstone \
    WHETSTONE_DATA=/data WHETSTONE_CONFIG=/app/config
WORKDIR /tmp
USER 10001:10001
ARG PYTHON_IMAGE
ARG BASE_DIGEST=unknown
LABEL org.opencontainers.image.base.name=${PYTHON_IMAGE} org.opencontainers.image.base.digest=${BASE_DIGEST}
ENTRYPOINT ["python", "-m", "services.server"]
CMD ["serve"]
