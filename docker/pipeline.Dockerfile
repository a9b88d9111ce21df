# The image of the pipeline: every step on Vertex AI, workers of Dataflow, Flink and Spark. Build it in the checkout's root:
#   docker build --file docker/pipeline.Dockerfile --build-arg VARIANT=cpu --tag NAME:TAG .      (VARIANT=cuda for NVIDIA GPUs)
# `python -m pipeline.vertex.image CONFIG` prints the commands with the labels that `tfrec vertex check` compares.

# glibc must be 2.38 or newer: Debian 13.
ARG BASE=python:3.12-slim-trixie
ARG BEAM=apache/beam_python3.12_sdk:2.77.0

FROM ${BASE} AS build
ARG VARIANT=cpu
WORKDIR /build
COPY requirements/bootstrap.txt requirements/image-${VARIANT}.txt requirements/
# Every file is checked against the hash in the lock.
RUN python -m venv /opt/installer \
    && /opt/installer/bin/pip install --no-cache-dir --require-hashes --requirement requirements/bootstrap.txt \
    && python -m venv --without-pip /opt/tfrec \
    && /opt/installer/bin/uv pip sync --no-cache --require-hashes --python /opt/tfrec/bin/python \
        "requirements/image-${VARIANT}.txt" \
    # Headers and a compiler's library, for who builds against TensorFlow: half a gigabyte.
    && rm -r /opt/tfrec/lib/python3.12/site-packages/tensorflow/include /opt/tfrec/lib/python3.12/site-packages/clang
COPY setup.py pyproject.toml README.md ./
COPY tfrec_fusion tfrec_fusion
COPY pipeline pipeline
RUN /opt/installer/bin/uv pip install --no-cache --no-deps --no-build-isolation --python /opt/tfrec/bin/python . ./pipeline \
    && /opt/tfrec/bin/python -m compileall -q /opt/tfrec/lib/python3.12/site-packages/pipeline \
        /opt/tfrec/lib/python3.12/site-packages/tfrec_fusion

# Beam's boot program, by which Dataflow, Flink and Spark start a worker.
FROM ${BEAM} AS beam

FROM ${BASE}
RUN groupadd --gid 1000 tfrec && useradd --uid 1000 --gid tfrec --create-home tfrec
COPY --from=beam /opt/apache/beam /opt/apache/beam
COPY --from=build /opt/tfrec /opt/tfrec
ENV PATH=/opt/tfrec/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TF_USE_LEGACY_KERAS=1 \
    TF_CPP_MIN_LOG_LEVEL=1
USER 1000
WORKDIR /home/tfrec
# A library that is missing shows here, and not in the first step of a run.
RUN python -c "import pipeline.definition.training, pipeline.callbacks.recommender_builder, pipeline.components.vertex_trainer, tensorflow_text, google.cloud.aiplatform_v1, google.cloud.storage"
# Steps on Vertex AI name their own command.
ENTRYPOINT ["/opt/apache/beam/boot"]
