// Builds kwok, whose simulated nodes carry the benchmark.
module renderfleet.dev/hack/kwok

go 1.26.0

require sigs.k8s.io/kwok v0.8.0

tool (
	sigs.k8s.io/kwok/cmd/kwok
)
