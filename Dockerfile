# syntax=docker/dockerfile:1
# Two ways to an image:
#
#   docker build -t fleet-telemetry .                                    builds the server
#   docker build -t fleet-telemetry --build-arg BINARY_FROM=prebuilt .   takes dist/<architecture>/fleet-telemetry
#
# BUILD_BASE needs a Rust toolchain as Cargo.toml names it; RUNTIME_BASE glibc 2.34 or later, OpenSSL 3, CA certificates.
ARG BUILD_BASE=rust:1.95-bookworm
ARG RUNTIME_BASE=gcr.io/distroless/cc-debian12:nonroot
ARG BINARY_FROM=build

FROM ${BUILD_BASE} AS build
WORKDIR /src
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends pkg-config libssl-dev zlib1g-dev && rm -rf /var/lib/apt/lists/*
COPY . .
ARG SOURCE_COMMIT=unknown
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    SOURCE_COMMIT=${SOURCE_COMMIT} cargo build --release --locked --features full --bin fleet-telemetry \
    && mkdir -p /out/lib \
    && strip -o /out/fleet-telemetry target/release/fleet-telemetry \
    && cp -L /usr/lib/*-linux-gnu/libz.so.1 /out/lib/

FROM scratch AS prebuilt
ARG TARGETARCH
COPY dist/${TARGETARCH}/ /out/

# hadolint ignore=DL3006
FROM ${BINARY_FROM} AS binary

# hadolint ignore=DL3006
FROM ${RUNTIME_BASE}
LABEL org.opencontainers.image.title="fleet-telemetry" \
      org.opencontainers.image.description="Receives vehicle telemetry over mutual TLS and hands it to Kafka, SQLite and other dispatchers" \
      org.opencontainers.image.licenses="Apache-2.0"
# Not every base has zlib.
COPY --from=binary /out/lib/ /opt/fleet-telemetry/lib/
COPY --from=binary --chmod=0755 /out/fleet-telemetry /usr/bin/fleet-telemetry
ENV LD_LIBRARY_PATH=/opt/fleet-telemetry/lib
USER 65532:65532
WORKDIR /var/lib/fleet-telemetry
EXPOSE 8443 8080 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s CMD ["/usr/bin/fleet-telemetry", "--config", "/etc/fleet-telemetry/config.json", "health"]
ENTRYPOINT ["/usr/bin/fleet-telemetry"]
CMD ["serve", "--config", "/etc/fleet-telemetry/config.json"]
