# The server and the libraries it needs, and nothing else: no shell, no package manager, no root.
#
#   docker build -t lhls .
#   docker run --rm -e LHLS_KEYS=live/stream=KEY -p 1935:1935 -p 9094:9094 lhls
FROM rust:1-slim-bookworm AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# The C++ compiler builds the encoder of the test picture; nasm makes it faster. The C compiler that comes with it builds the cryptography.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates g++ nasm \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --locked --profile dist --bin lhls
# The program, what the loader says it needs, and the certificate authorities.
RUN mkdir -p /image/usr/bin /image/etc/ssl/certs \
    && cp target/dist/lhls /image/usr/bin/ \
    && ldd /image/usr/bin/lhls | grep -o '/[^ ]*' | while read -r library; do \
        install -D "$library" "/image$library"; \
    done \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/

FROM scratch
COPY --from=build /image/ /
USER 65534:65534
EXPOSE 1935 9094
# Ends streams and tells viewers. "docker kill -s USR2" leaves at once instead, for an upgrade.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/lhls"]
CMD ["serve"]
