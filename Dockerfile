# syntax=docker/dockerfile:1
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# What 'clerksync version' prints: docker build --build-arg VERSION=v1.2.3
ARG VERSION
# The embedded database, MONGODB_URI=embedded:DIR, is left out; with --build-arg TAGS= it is in.
ARG TAGS=noembedded
RUN CGO_ENABLED=0 go build -tags="$TAGS" -trimpath -ldflags="-s -w -X main.version=$VERSION" -o /clerksync ./cmd/clerksync

# Static, with CA certificates, without a shell; runs as user 65532.
FROM gcr.io/distroless/static-debian13:nonroot
COPY --from=build /clerksync /clerksync
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=5s --start-period=40s CMD ["/clerksync", "health"]
ENTRYPOINT ["/clerksync"]
CMD ["serve"]
