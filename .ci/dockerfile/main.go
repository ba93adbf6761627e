// Command dockerfile checks the Dockerfile on standard input as 'docker build --check' does, by the same code of
// BuildKit, but without an engine and without the network: it takes each base image to be there.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

func main() {
	log.SetFlags(0)
	if err := check(); err != nil {
		log.Fatal(err)
	}
}

// there says of every image that it is there and for the platform it is asked for.
type there struct{}

func (there) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (
	string, digest.Digest, []byte, error,
) {
	return ref, "", []byte(`{"architecture":"amd64","os":"linux"}`), nil
}

func check() error {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	source := llb.NewSourceMap(nil, "Dockerfile", "", text)
	source.Definition = &llb.Definition{} // where the text is from, for an engine
	caps := pb.Caps.CapSet(pb.Caps.All())
	res, err := dockerfile2llb.DockerfileLint(context.Background(), text, dockerfile2llb.ConvertOpt{
		MetaResolver:   there{},
		LLBCaps:        &caps,
		SourceMap:      source,
		TargetPlatform: &ocispecs.Platform{OS: "linux", Architecture: "amd64"},
	})
	if err != nil {
		return err
	}
	if err := res.PrintTo(os.Stderr, nil); err != nil {
		return err
	}
	if res.Error != nil {
		return errors.New(res.Error.Message)
	}
	if n := len(res.Warnings); n > 0 {
		return fmt.Errorf("%d warnings", n)
	}
	return nil
}
