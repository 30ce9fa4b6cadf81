// A service that otelhttp traces: sdk PORT
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace"
)

var next = os.Getenv("NEXT")

func exporter(ctx context.Context) (trace.SpanExporter, error) {
	if os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL") == "grpc" {
		return otlptracegrpc.New(ctx)
	}
	return otlptracehttp.New(ctx)
}

func main() {
	made, err := exporter(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	otel.SetTracerProvider(trace.NewTracerProvider(trace.WithBatcher(made)))
	otel.SetTextMapPropagator(propagation.TraceContext{})
	client := &http.Client{Transport: otelhttp.NewTransport(http.DefaultTransport)}
	serve := func(w http.ResponseWriter, r *http.Request) {
		path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
		switch path[0] {
		case "sleep":
			millis, _ := strconv.Atoi(path[1])
			time.Sleep(time.Duration(millis) * time.Millisecond)
		case "call":
			request, err := http.NewRequestWithContext(r.Context(), "GET", next+"/hello/"+path[1], nil)
			if err != nil {
				log.Fatal(err)
			}
			answer, err := client.Do(request)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			defer answer.Body.Close()
			io.Copy(io.Discard, answer.Body)
		}
		fmt.Fprintln(w, "hello")
	}
	handler := otelhttp.NewHandler(http.HandlerFunc(serve), "app")
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], handler))
}
