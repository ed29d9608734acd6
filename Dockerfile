# One image for the code location, the runs, the webserver and the daemon. It has what the pipeline
# needs; docs/deploying.md shows how to add what your gates need.
# Untried: there was no Docker where this was written. docs/many-machines.md says what was checked.
FROM python:3.11-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends bash git openssh-client \
    && rm -rf /var/lib/apt/lists/*

# Git refuses a checkout that another user owns, and then nobody knows its commit.
RUN git config --system --add safe.directory /checkout

COPY constraints.txt pyproject.toml README.md LICENSE /src/
COPY canary_pipeline /src/canary_pipeline
RUN pip install --no-cache-dir --constraint /src/constraints.txt \
        "/src[cloud]" dagster-postgres dagster-k8s dagster-docker

# /work is the one folder that is written to: rollouts at work, Dagster's home, temporary files.
RUN useradd --uid 10001 --create-home --home-dir /work canary
USER 10001
WORKDIR /work
ENV HOME=/work \
    TMPDIR=/work/tmp \
    DAGSTER_HOME=/work/dagster \
    CANARY_PIPELINE_CLAIM_DIR=/work/claims \
    CANARY_PIPELINE_STATE_DIR=/work/state \
    MPLCONFIGDIR=/work/matplotlib \
    PYTHONDONTWRITEBYTECODE=1
VOLUME /work

# The folders are made at the start, since /work may be an empty volume. The process that is sent
# SIGTERM is the program itself: it ends with its summary, and with its rollback.
ENTRYPOINT ["/bin/sh", "-c", "mkdir -p /work/tmp /work/dagster /work/claims /work/state && exec \"$@\"", "--"]
CMD ["dagster", "api", "grpc", "--module-name", "canary_pipeline", "--host", "0.0.0.0", "--port", "4000"]
