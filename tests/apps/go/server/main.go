// The service on net/http: server PORT
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
)

var (
	next   = os.Getenv("NEXT")
	client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
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
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body)
	case "bytes":
		w.Header().Set("Content-Length", path[1])
		w.Write(bytes.Repeat([]byte("x"), number))
	case "stream":
		for left := number; left > 0; left -= 1000 {
			w.Write(bytes.Repeat([]byte("y"), min(left, 1000)))
			w.(http.Flusher).Flush()
		}
	case "status":
		w.WriteHeader(number)
		if number != 204 && number != 304 {
			fmt.Fprintf(w, "status %d\n", number)
		}
	case "sleep":
		time.Sleep(time.Duration(number) * time.Millisecond)
		fmt.Fprintln(w, "slept")
	case "call":
		answer, err := client.Get(next + "/hello/" + path[1])
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

func main() {
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], http.HandlerFunc(serve)))
}
