// Builds versitygw, the S3 server of tests and demo.
module renderfleet.dev/hack/versitygw

go 1.26.0

require github.com/versity/versitygw v1.8.0

tool (
	github.com/versity/versitygw/cmd/versitygw
)
