# zoo on a CPU; by default the viewer: docs/install.md says how to build and run it.
ARG PYTHON=3.12
FROM python:${PYTHON}-slim AS build
ENV PATH=/opt/zoo/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/zoo
WORKDIR /source
# Packages first: they change less often than zoo. A CPU-only torch comes as its index gives it, without a hash of ours.
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX
RUN test -n "$TORCH_INDEX" || { echo "add --build-arg TORCH_INDEX=URL, that of PyTorch's CPU-only builds" >&2; exit 1; }
COPY pyproject.toml ./
COPY .ci .ci
RUN python .ci/requirements.py run > requirements.txt \
    && pip install --require-hashes --no-deps -r requirements.txt \
    && pip install --no-deps --index-url "$TORCH_INDEX" "$TORCH"
COPY README.md LICENSE ./
COPY checkpoints checkpoints
COPY configs configs
COPY zoo zoo
RUN pip install --no-deps --no-build-isolation .

FROM python:${PYTHON}-slim
COPY --from=build /opt/zoo /opt/zoo
RUN useradd --create-home zoo
USER zoo
WORKDIR /home/zoo
ENV PATH=/opt/zoo/bin:$PATH PYTHONUNBUFFERED=1
EXPOSE 8080
# Ctrl-C is how the viewer is meant to end; `docker stop` sends the same.
STOPSIGNAL SIGINT
ENTRYPOINT ["zoo"]
CMD ["view", "shadegan", "--host", "0.0.0.0", "--no-open"]
