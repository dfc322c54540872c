# Images of entropyd; docs/operations.md says how to build and run them.
#
#   coding       the roles coding and registry, without TensorFlow
#   server-gpu   all roles, on the GPU image of TensorFlow 2.14
#   server       all roles, on the CPU; what a build without --target makes
#
# Base images are named by tag. For a reproducible build, name them by digest:
#   docker build --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:... .
#
# No HEALTHCHECK: Kubernetes ignores it and asks the server's own gRPC health, and a command would start a Python
# interpreter every few seconds.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG GPU_IMAGE=tensorflow/tensorflow:2.14.0-gpu

FROM ${PYTHON_IMAGE} AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY client client
COPY server server
COPY deploy/image/wheel.sh deploy/image/
RUN deploy/image/wheel.sh /dist

# The base of the stages that install.
FROM ${PYTHON_IMAGE} AS build
# LLVM's name of the processor that kernels are compiled for; on another architecture: generic.
ARG KERNEL_CPU=x86-64-v3
ENV NUMBA_CPU_NAME=$KERNEL_CPU NUMBA_CPU_FEATURES="" PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY constraints.txt ./
COPY deploy/image deploy/image
COPY --from=wheel /dist /dist

FROM build AS coding-build
RUN deploy/image/install.sh /opt/entropyd coding,tracing /dist/*.whl

FROM build AS server-build
RUN deploy/image/install.sh /opt/entropyd server,tracing /dist/*.whl

# The base of the images that serve.
FROM ${PYTHON_IMAGE} AS runtime
ARG KERNEL_CPU=x86-64-v3
LABEL org.opencontainers.image.title="entropyd" \
      org.opencontainers.image.description="Remote entropy coding over gRPC" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.documentation="docs/operations.md"
# The base image has no bytecode and is read-only later, so each start would compile the standard library.
RUN python3 -m compileall -q -x '/(test|idlelib|lib2to3|site-packages)/' /usr/local/lib/python3.11 \
 && install -d -o 65532 -g 65532 /var/lib/entropyd
ENV PATH=/opt/entropyd/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NUMBA_CPU_NAME=$KERNEL_CPU \
    NUMBA_CPU_FEATURES="" \
    NUMBA_CACHE_DIR=/tmp/entropyd-kernels \
    ENTROPYD_LISTEN=0.0.0.0:7070 \
    ENTROPYD_METRICS_LISTEN=0.0.0.0:9464 \
    ENTROPYD_STORE=file:///var/lib/entropyd
EXPOSE 7070 9464
STOPSIGNAL SIGTERM
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["/opt/entropyd/bin/entropyd-start"]

FROM runtime AS coding
COPY --from=coding-build /opt/entropyd /opt/entropyd

# The base image has CUDA 11.8 and Python 3.11, at another path than the other images, so this stage installs its own
# environment. TensorFlow is installed again, because TensorFlow Compression is built for 2.14.1.
FROM ${GPU_IMAGE} AS server-gpu
ARG KERNEL_CPU=x86-64-v3
LABEL org.opencontainers.image.title="entropyd" \
      org.opencontainers.image.description="Remote entropy coding over gRPC, with GPUs for the modeling role" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.documentation="docs/operations.md"
ENV PATH=/opt/entropyd/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NUMBA_CPU_NAME=$KERNEL_CPU \
    NUMBA_CPU_FEATURES="" \
    NUMBA_CACHE_DIR=/tmp/entropyd-kernels \
    ENTROPYD_LISTEN=0.0.0.0:7070 \
    ENTROPYD_METRICS_LISTEN=0.0.0.0:9464 \
    ENTROPYD_STORE=file:///var/lib/entropyd
WORKDIR /src
COPY constraints.txt ./
COPY deploy/image deploy/image
COPY --from=wheel /dist /dist
RUN PIP_NO_CACHE_DIR=1 deploy/image/install.sh /opt/entropyd server,tracing /dist/*.whl \
 && install -d -o 65532 -g 65532 /var/lib/entropyd
EXPOSE 7070 9464
STOPSIGNAL SIGTERM
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["/opt/entropyd/bin/entropyd-start"]

FROM runtime AS server
COPY --from=server-build /opt/entropyd /opt/entropyd
