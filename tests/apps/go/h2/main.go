// A service and clients over HTTP/2 without TLS.
//
//	h2 server PORT
//	h2 client BASE CONCURRENCY              the requests of standard input, on one connection
//	h2 busy BASE CONNECTIONS STREAMS MILLIS requests on each connection until standard input ends
//
// Input: METHOD, PATH, BODY BYTES, traceparent or '-', by tabs. What was done goes to standard output, a JSON object a line.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type call struct {
	Method   string `json:"method"`
	Path     string `json:"path"`
	Status   int    `json:"status"`
	Sent     int    `json:"sent"`
	Received int64  `json:"received"`
	Start    int64  `json:"start"`
	End      int64  `json:"end"`
	Pid      int    `json:"pid"`
}

var (
	lock sync.Mutex
	out  = json.NewEncoder(os.Stdout)
)

func tell(done call) {
	lock.Lock()
	defer lock.Unlock()
	out.Encode(done)
}

// HTTP/2 by prior knowledge alone.
func transport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Transport{Protocols: protocols}
}

func main() {
	switch os.Args[1] {
	case "server":
		server(os.Args[2])
	case "client":
		client(os.Args[2], number(os.Args[3]))
	case "busy":
		busy(os.Args[2], number(os.Args[3]), number(os.Args[4]), number(os.Args[5]))
	}
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func client(base string, concurrency int) {
	plan := make(chan []string)
	caller := &http.Client{Transport: transport()}
	var workers sync.WaitGroup
	for range concurrency {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for line := range plan {
				tell(one(caller, base, line))
			}
		}()
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		plan <- strings.Split(lines.Text(), "\t")
	}
	close(plan)
	workers.Wait()
}

// Some of a body of "endless" is enough; trailers go where the path asks for them.
func one(caller *http.Client, base string, line []string) call {
	sent := number(line[2])
	var body io.Reader
	if sent > 0 {
		body = strings.NewReader(strings.Repeat("b", sent))
	}
	request, err := http.NewRequest(line[0], base+line[1], body)
	if err != nil {
		log.Fatal(err)
	}
	if line[3] != "-" {
		request.Header.Set("traceparent", line[3])
	}
	if strings.HasPrefix(line[1], "/trailers/") {
		request.Header.Set("TE", "trailers")
		if sent > 0 {
			request.ContentLength = -1
			request.Trailer = http.Header{"X-Sent": {line[2]}}
		}
	}
	start := time.Now()
	// What comes but once drives what came before out of the connection's table.
	request.Header.Set("X-Request-Id", fmt.Sprintf("%016x-%016x", os.Getpid(), start.UnixNano()))
	answer, err := caller.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	if answer.ProtoMajor != 2 {
		log.Fatal("not HTTP/2: ", answer.Proto)
	}
	var received int64
	switch {
	case strings.HasPrefix(line[1], "/endless/"):
		received, err = io.CopyN(io.Discard, answer.Body, 3000)
	case strings.HasPrefix(line[1], "/abort/"):
		received, err = io.Copy(io.Discard, answer.Body)
		if err == nil {
			log.Fatal("an aborted answer came whole")
		}
		err = nil
	default:
		received, err = io.Copy(io.Discard, answer.Body)
	}
	if err != nil {
		log.Fatal(err)
	}
	// Returns when a stream that is not over has been reset.
	answer.Body.Close()
	if strings.HasPrefix(line[1], "/trailers/") && answer.Trailer.Get("X-Sum") == "" {
		log.Fatal("no trailers")
	}
	return call{line[0], line[1], answer.StatusCode, sent, received, start.UnixNano(), time.Now().UnixNano(), os.Getpid()}
}

// Each body has a size of its own, which tells the exchanges apart where nothing else does. Half of the paths come only once, half of
// them again and again.
func busy(base string, connections, streams, millis int) {
	var workers sync.WaitGroup
	var stop atomic.Bool
	for i := range connections {
		caller := &http.Client{Transport: transport()}
		var count atomic.Int64
		workers.Add(1)
		go func() {
			defer workers.Done()
			repeat := func() {
				n := int(count.Add(1))
				path := fmt.Sprintf("/echo/%dc%dn%d", os.Getpid(), i, n)
				if n%2 == 0 {
					path = fmt.Sprintf("/echo/again%d", n/2%8)
				}
				tell(one(caller, base, []string{"POST", path, strconv.Itoa(n*connections + i), "-"}))
				time.Sleep(time.Duration(millis) * time.Millisecond)
			}
			// The connection is there before several streams need it.
			repeat()
			var own sync.WaitGroup
			for range streams {
				own.Add(1)
				go func() {
					defer own.Done()
					for !stop.Load() {
						repeat()
					}
				}()
			}
			own.Wait()
		}()
	}
	io.Copy(io.Discard, os.Stdin)
	stop.Store(true)
	workers.Wait()
}
