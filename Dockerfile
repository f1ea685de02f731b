# The service of anatozoo on CPUs: its weights are inside, it runs without the network and not as root.
#
#   docker build -t anatozoo .
#   docker run --rm -p 127.0.0.1:8000:8000 anatozoo
#
# PyTorch's wheels for Linux bring CUDA with them, some gigabytes that a CPU has no use for. Its makers keep
# wheels without: give their index, which PyTorch's page on installation names, to have a small image:
#
#   docker build -t anatozoo --build-arg TORCH_INDEX=ADDRESS .

FROM python:3.12-slim AS build
ARG TORCH_INDEX=""
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE checkpoints_manifest.yaml ./
COPY anatozoo ./anatozoo
RUN python -m venv /opt/anatozoo \
    && pip="/opt/anatozoo/bin/python -m pip" \
    && $pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
    && if [ -n "$TORCH_INDEX" ]; then $pip install --no-cache-dir --index-url "$TORCH_INDEX" "torch>=2.10"; fi \
    && $pip install --no-cache-dir "$(ls /wheels/anatozoo-*.whl)[serve,dicom]"

FROM python:3.12-slim
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin anatozoo
COPY --from=build /opt/anatozoo /opt/anatozoo
ENV PATH=/opt/anatozoo/bin:$PATH \
    HOME=/tmp \
    HF_HUB_OFFLINE=1 \
    MPLCONFIGDIR=/tmp \
    PYTHONDONTWRITEBYTECODE=1
USER 10001
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["anatozoo"]
CMD ["serve", "--host", "0.0.0.0", "--models", "hybridgnet-chexmask"]
