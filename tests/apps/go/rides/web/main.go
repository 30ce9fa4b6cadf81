// gRPC's own health service behind improbable-eng/grpc-web, over HTTP/1. Argument: port.
package main

import (
	"fmt"
	"net/http"
	"os"

	"github.com/improbable-eng/grpc-web/go/grpcweb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

func main() {
	server := grpc.NewServer()
	service := health.NewServer()
	service.SetServingStatus("shop", healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(server, service)
	wrapped := grpcweb.WrapServer(server, grpcweb.WithOriginFunc(func(string) bool { return true }))
	if err := http.ListenAndServe("127.0.0.1:"+os.Args[1], wrapped); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
