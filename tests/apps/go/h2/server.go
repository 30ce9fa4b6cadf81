// The service over HTTP/2 without TLS: `h2 server PORT`. The handler of golang.org/x/net takes connections that begin with HTTP/2
// and those that are upgraded to it.
package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/h2c"
)

var (
	next   = os.Getenv("NEXT")
	caller = &http.Client{Transport: transport()}
)

func serve(w http.ResponseWriter, r *http.Request) {
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	number := 0
	if len(path) > 1 {
		number, _ = strconv.Atoi(path[1])
	}
	switch path[0] {
	case "hello":
		fmt.Fprintf(w, "hello %s\n", path[1])
	case "echo":
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Write(body)
	case "bytes":
		w.Header().Set("Content-Length", path[1])
		w.Write(bytes.Repeat([]byte("x"), number))
	case "stream":
		for left := number; left > 0; left -= 1000 {
			w.Write(bytes.Repeat([]byte("y"), min(left, 1000)))
			w.(http.Flusher).Flush()
		}
	case "trailers":
		w.Header().Set("Trailer", "X-Sum")
		io.Copy(io.Discard, r.Body)
		w.Write(bytes.Repeat([]byte("t"), number))
		w.Header().Set("X-Sum", strconv.Itoa(number))
	case "endless":
		// Until the client has had enough of it.
		for r.Context().Err() == nil {
			w.Write(bytes.Repeat([]byte("e"), 1000))
			w.(http.Flusher).Flush()
			time.Sleep(5 * time.Millisecond)
		}
	case "abort":
		w.Write(bytes.Repeat([]byte("a"), number))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	case "status":
		w.WriteHeader(number)
		if number != 204 && number != 304 {
			fmt.Fprintf(w, "status %d\n", number)
		}
	case "sleep":
		time.Sleep(time.Duration(number) * time.Millisecond)
		fmt.Fprintln(w, "slept")
	case "call":
		answer, err := caller.Get(next + "/hello/" + path[1])
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer answer.Body.Close()
		io.Copy(w, answer.Body)
	default:
		http.NotFound(w, r)
	}
}

func server(port string) {
	handler := h2c.NewHandler(http.HandlerFunc(serve), &http2.Server{MaxConcurrentStreams: 1000})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+port, handler))
}
