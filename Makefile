.PHONY: help release pictures test short race e2e old lint fuzz bench dev inngest

# On a slow machine the end-to-end tests need more than the usual ten minutes.
PATIENCE = -timeout 30m
LINT     = v2.15.0
RELEASER = v2.16.0
FUZZTIME = 60s
BENCH    = Webhook|Rule|Names|Verify
E2E      =
RELEASE  = release --clean
TOOLS    = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/clerksync/golangci-lint-$(LINT)

help: ## this list
	@sed -n 's/^\([a-z0-9]*\):.*## \(.*\)/\1	\2/p' Makefile | expand -t 8

test short: export GOGC = 400 # nobody waits for memory here, and collecting garbage is a third of the random tests
test: inngest ## every test; builds the Inngest server first if it is not there (two minutes, once)
	go test $(PATIENCE) ./...

short: ## without the end-to-end tests and most of the random ones: a minute and a half
	go test -short ./...

race: inngest ## as short and two end-to-end tests, with the race detector, in a random order; needs a C compiler
	go test $(PATIENCE) -short -race -shuffle=on ./...
	go test $(PATIENCE) -race -shuffle=on ./e2e -run '^(TestOrder|TestHistories)$$'

e2e: inngest ## the end-to-end tests, with the flags in E2E: make e2e E2E='-run Chaos -v'
	go test $(PATIENCE) ./e2e $(E2E)

old: export CLERKSYNC_TEST_INNGEST = old
old: inngest ## a few end-to-end tests with the oldest Inngest server that clerksync works with
	go test $(PATIENCE) ./e2e -run '^(TestOrder|TestHistories|TestBothSources|TestDeadLetterOfIntegration|TestDoctor|TestRequestsARun|TestSignedCalls|TestSteps)$$'

lint: ## golangci-lint, built once
	@test -x $(TOOLS)/golangci-lint || GOBIN=$(TOOLS) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT)
	$(TOOLS)/golangci-lint config verify
	$(TOOLS)/golangci-lint run

fuzz: ## every fuzz target side by side, for FUZZTIME each
	@pids=; for target in $$(grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sed 's|/[^/]*_test.go:func |:|'); do \
		echo "$$target"; \
		go test "$${target%:*}" -run '^$$' -fuzz "^$${target#*:}$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s -parallel 1 & \
		pids="$$pids $$!"; \
	done; \
	failed=0; for pid in $$pids; do wait $$pid || failed=1; done; exit $$failed

bench: ## the benchmarks that BENCH matches; docs/performance.md says which there are
	go test ./bench ./store ./webhook -run '^$$' -bench '$(BENCH)'

pictures: ## the pictures of the page in docs/images; needs Chromium
	CLERKSYNC_TEST_PROGRAMS=required CLERKSYNC_TEST_SHOTS=$(CURDIR)/docs/images go test -count=1 ./status -run '^TestBrowser$$/^pictures$$'

release: ## goreleaser, as the workflow runs it for a tag; with another command: make release RELEASE=check
	go run github.com/goreleaser/goreleaser/v2@$(RELEASER) $(RELEASE)

dev: ## the service with all that it needs, until Ctrl-C
	go run ./cmd/clerksync dev

inngest:
	@go run ./internal/testenv/inngesttest/build
