# The image of the embedded server, which speaks TF Serving's REST and gRPC: no TFX, no Beam, no compiler.
#   docker build --file docker/serving.Dockerfile --tag NAME:TAG .
#   docker run --publish 8501:8501 --volume "$PWD/runs/shop/serving/retrieval:/models/retrieval:ro" NAME:TAG \
#       --model_name=retrieval --model_base_path=/models/retrieval --rest_api_port=8501

ARG BASE=python:3.12-slim-trixie

FROM ${BASE} AS build
WORKDIR /build
COPY requirements/bootstrap.txt requirements/image-serving.txt requirements/
RUN python -m venv /opt/installer \
    && /opt/installer/bin/pip install --no-cache-dir --require-hashes --requirement requirements/bootstrap.txt \
    && python -m venv --without-pip /opt/tfrec \
    && /opt/installer/bin/uv pip sync --no-cache --require-hashes --python /opt/tfrec/bin/python \
        requirements/image-serving.txt \
    # Headers and a compiler's library, for who builds against TensorFlow: half a gigabyte.
    && rm -r /opt/tfrec/lib/python3.12/site-packages/tensorflow/include /opt/tfrec/lib/python3.12/site-packages/clang
# The server and what it logs and tries: it imports nothing else of the library.
COPY tfrec_fusion/__init__.py tfrec_fusion/lazy.py tfrec_fusion/errors.py /opt/tfrec/lib/python3.12/site-packages/tfrec_fusion/
COPY tfrec_fusion/serving /opt/tfrec/lib/python3.12/site-packages/tfrec_fusion/serving
COPY tfrec_fusion/impressions /opt/tfrec/lib/python3.12/site-packages/tfrec_fusion/impressions
COPY tfrec_fusion/experiments /opt/tfrec/lib/python3.12/site-packages/tfrec_fusion/experiments
RUN /opt/tfrec/bin/python -m compileall -q /opt/tfrec/lib/python3.12/site-packages/tfrec_fusion

FROM ${BASE}
RUN groupadd --gid 1000 tfrec && useradd --uid 1000 --gid tfrec --create-home tfrec
COPY --from=build /opt/tfrec /opt/tfrec
ENV PATH=/opt/tfrec/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TF_CPP_MIN_LOG_LEVEL=1
USER 1000
WORKDIR /home/tfrec
RUN python -c "import tfrec_fusion.serving.server.embedded, tensorflow_text"
# A container is reached from outside only where its ports are published. On all addresses the server takes no configuration
# by gRPC unless --reload_base_paths names folders; --port=0 switches gRPC off.
EXPOSE 8500 8501
ENTRYPOINT ["python", "-m", "tfrec_fusion.serving.server", "--host=0.0.0.0"]
