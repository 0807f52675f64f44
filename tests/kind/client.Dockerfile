# The host outside the cluster.
FROM debian:bookworm-slim
RUN apt-get update && \
    apt-get install --yes --no-install-recommends curl iproute2 socat && \
    rm -rf /var/lib/apt/lists/*
CMD ["sleep", "infinity"]
