// Verifies one webhook with the Go library of Standard Webhooks: the body on stdin, the secret and the three headers as
// arguments. Exits with 1, and says why, for one that is not genuine.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

func main() {
	secret, id, timestamp, signature := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	body, err := io.ReadAll(os.Stdin)
	if err == nil {
		err = verify(secret, body, id, timestamp, signature)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func verify(secret string, body []byte, id, timestamp, signature string) error {
	verifier, err := webhooks.NewWebhook(secret)
	if err != nil {
		return err
	}
	headers := http.Header{}
	headers.Set(webhooks.HeaderWebhookID, id)
	headers.Set(webhooks.HeaderWebhookTimestamp, timestamp)
	headers.Set(webhooks.HeaderWebhookSignature, signature)
	return verifier.Verify(body, headers)
}
