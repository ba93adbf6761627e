# syntax=docker/dockerfile:1
# Go runs on the machine that builds, for whichever platform is asked for: docker build --platform linux/arm64
FROM --platform=$BUILDPLATFORM golang:1.26.8@sha256:6c2a5538f964f1c82f97ad14988bf05de100d922d159d0e398b54c7b0ca0c6c9 AS go
WORKDIR /src
COPY . .
ARG TARGETOS
ARG TARGETARCH
# What 'clerksync version' prints: docker build --build-arg VERSION=v1.2.3. Render names the commit.
ARG RENDER_GIT_COMMIT
ARG VERSION=$RENDER_GIT_COMMIT
# The embedded database, MONGODB_URI=embedded:DIR, is left out; with --build-arg TAGS= it is in.
ARG TAGS=noembedded
# Modules and what is compiled stay in caches of the machine that builds, so that a second build takes seconds.
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -tags="$TAGS" -trimpath -ldflags="-s -w -X main.version=$VERSION" -o /clerksync ./cmd/clerksync

# Static, with CA certificates, without a shell; runs as user 65532.
FROM gcr.io/distroless/static-debian13:nonroot@sha256:e2e927ec666bae08560abb3c55d0659eceabb657f56b6782ab500a9fc7f555e3
COPY --from=go /clerksync /clerksync
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=5s --start-period=40s CMD ["/clerksync", "health"]
ENTRYPOINT ["/clerksync"]
CMD ["serve"]
