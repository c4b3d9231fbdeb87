# Serving without TensorFlow: docker build -t cellclf .            Training: docker build --target train -t cellclf-train .
# For NVIDIA GPUs, x86-64:    --build-arg DEVICE=cuda               Run: docs/deploy/README.md
# BASE may be given with a digest; stages of one build must share it.
ARG BASE=python:3.11-slim-bookworm
ARG DEVICE=cpu

# What installs: uv, with the hash that constraints.txt has for it; and an empty environment.
FROM ${BASE} AS tools
ENV PATH=/opt/tools/bin:$PATH UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
WORKDIR /build
COPY constraints.txt constraints-cuda.txt ./
RUN sed -n '/^uv==/,/[^\\]$/p' constraints.txt > uv.txt \
    && python -m venv /opt/tools \
    && /opt/tools/bin/python -m pip install --no-cache-dir --require-hashes -r uv.txt \
    && uv venv --python /usr/local/bin/python /opt/cellclf \
    && sed -n '/^onnxruntime==/,/[^\\]$/{s/ ;.*/ \\/;p}' constraints.txt > onnxruntime-cpu.txt \
    && echo onnxruntime-gpu > without-gpu.txt \
    && echo jax > without-jax.txt
COPY pyproject.toml ./

FROM tools AS wheel
COPY README.md LICENSE ./
COPY cellclf cellclf
RUN uv build --wheel --build-constraints constraints.txt --require-hashes --out-dir dist

# The plain ONNX Runtime in the place of the one for GPUs, which is 280 MB larger.
FROM tools AS serve-cpu
RUN uv pip install --python /opt/cellclf --require-hashes -r pyproject.toml --extra serve \
        -r onnxruntime-cpu.txt --excludes without-gpu.txt -c constraints.txt

# ONNX Runtime with CUDA 13's libraries; JAX, which the same extra brings for training, stays out.
FROM tools AS serve-cuda
RUN uv pip install --python /opt/cellclf --require-hashes -r pyproject.toml --extra serve --extra cuda13 \
        --excludes without-jax.txt -c constraints.txt -c constraints-cuda.txt

# hadolint ignore=DL3006  # a stage of this file, whose base has its tag
FROM serve-${DEVICE} AS build
COPY --from=wheel /build/dist /build/dist
RUN uv pip install --python /opt/cellclf --no-deps dist/*.whl

FROM tools AS train-cpu
RUN uv pip install --python /opt/cellclf --require-hashes -r pyproject.toml --extra train \
        -r onnxruntime-cpu.txt --excludes without-gpu.txt -c constraints.txt

# On GPUs of CUDA 13 the network is trained with JAX.
FROM tools AS train-cuda
RUN uv pip install --python /opt/cellclf --require-hashes -r pyproject.toml --extra train --extra cuda13 \
        -c constraints.txt -c constraints-cuda.txt
ENV KERAS_BACKEND=jax

# hadolint ignore=DL3006  # a stage of this file, whose base has its tag
FROM train-${DEVICE} AS train
COPY --from=wheel /build/dist /build/dist
RUN uv pip install --python /opt/cellclf --no-deps dist/*.whl
ENV PATH=/opt/cellclf/bin:$PATH CELLCLF_CACHE=/tmp/cellclf KERAS_HOME=/tmp/keras MPLCONFIGDIR=/tmp/matplotlib \
    ORT_DISABLE_TELEMETRY=1
WORKDIR /srv/cellclf
USER 10001:10001
ENTRYPOINT ["cellclf"]
CMD ["--help"]

FROM ${BASE} AS serve
# ONNX Runtime's own wheels report their use to Microsoft unless they are told not to.
ENV PATH=/opt/cellclf/bin:$PATH CELLCLF_CACHE=/tmp/cellclf ORT_DISABLE_TELEMETRY=1
WORKDIR /srv/cellclf
COPY --from=build /opt/cellclf /opt/cellclf
# The base image holds its standard library as source; where nothing may be written it would be compiled at every start and health check.
RUN python -c "import urllib.request, onnxruntime, cellclf.serving.app, cellclf.serving.server"
ENV PYTHONDONTWRITEBYTECODE=1
COPY exported/blood-cells-mobilenet025.onnx exported/
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1:8000', timeout=2); c.request('GET', '/v2/health/ready'); exit(c.getresponse().status != 200)"]
# Beyond loopback the service wants CELLCLF_API_KEYS, --api-keys-file or --no-auth, and ends with 1 where it has none.
ENTRYPOINT ["cellclf", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["exported/blood-cells-mobilenet025.onnx"]
