// Package echo is what the gRPC programs share: messages are bytes, methods those of Echo0 to Echo15.
package echo

import (
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"

	_ "google.golang.org/grpc/encoding/gzip" // registers the compressor
)

// Bytes is a codec of messages that are `*[]byte`.
type Bytes struct{}

func (Bytes) Name() string { return "proto" }

func (Bytes) Marshal(message any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*message.(*[]byte))}, nil
}

func (Bytes) Unmarshal(data mem.BufferSlice, message any) error {
	*message.(*[]byte) = data.Materialize()
	return nil
}

var _ encoding.CodecV2 = Bytes{}

// Wish is what a call asks of its server, in the metadata `x-do`: replies, their size, the status and milliseconds to wait.
type Wish struct{ Replies, Size, Status, Sleep int }

func (wish Wish) String() string {
	return fmt.Sprintf("%d,%d,%d,%d", wish.Replies, wish.Size, wish.Status, wish.Sleep)
}

// Parse reads a wish; what is missing is 0.
func Parse(text string) Wish {
	var parts [4]int
	for i, part := range strings.SplitN(text, ",", len(parts)) {
		parts[i], _ = strconv.Atoi(part)
	}
	return Wish{parts[0], parts[1], parts[2], parts[3]}
}
