// Builds the program of the sandbox image: it only waits.
module renderfleet.dev/hack/pause

go 1.26.0
