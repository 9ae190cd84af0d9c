# Predictions on a CPU: the core and the model in the package. No PyTorch, no network at run time.
#
#   docker build -t fvv .
#   docker run --rm --read-only --tmpfs /tmp --network none -v "$PWD/new_patients:/data:ro" -v "$PWD/results:/out" \
#     --user "$(id -u):$(id -g)" fvv predict /data -o /out
#
# More, Apptainer and the BIDS-App command line: docs/how-to/container.md.
FROM python:3.12-slim AS build
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY src ./src
RUN python -m venv /opt/fvv && /opt/fvv/bin/pip install --no-cache-dir -c constraints.txt '.[dicom]'

FROM python:3.12-slim
COPY --from=build /opt/fvv /opt/fvv
COPY --chmod=755 container/bids_app.py /opt/fvv/bin/fvv-bids
# Nothing is written outside /tmp and the folders that are mounted.
ENV PATH=/opt/fvv/bin:$PATH HOME=/tmp XDG_CACHE_HOME=/tmp/cache MPLCONFIGDIR=/tmp/matplotlib PYTHONDONTWRITEBYTECODE=1
# A volume that is first mounted there takes the owner of the folder: the spool of `fvv listen`.
RUN useradd --uid 1000 --no-create-home --shell /usr/sbin/nologin fvv && install -d -o 1000 -m 700 /var/lib/fvv
USER 1000
WORKDIR /tmp
ENTRYPOINT ["fvv"]
CMD ["--help"]
