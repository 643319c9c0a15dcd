// Builds etcd for the local cluster: Debian's is too old for the API server.
module renderfleet.dev/hack/etcd

go 1.26.0

require go.etcd.io/etcd/server/v3 v3.7.3

tool (
	go.etcd.io/etcd/server/v3
)
