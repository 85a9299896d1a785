// Command minio is MinIO's server as its own main starts it: an STS that checks our tokens as AWS's does, for the
// story in e2e/tests/minio_sts.rs. AGPL: built and run by tests alone, never shipped.
package main

import (
	"os"

	minio "github.com/minio/minio/cmd"
)

func main() {
	minio.Main(os.Args)
}
