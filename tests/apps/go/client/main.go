// The requests of standard input (METHOD, PATH, BODY BYTES, traceparent or '-', by tabs) with net/http; what was done goes to
// standard output, one JSON object per line: client BASE CONCURRENCY
package main

import (
	"bufio"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
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

func main() {
	base := os.Args[1]
	concurrency, err := strconv.Atoi(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	plan := make(chan []string)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: concurrency}}
	var workers sync.WaitGroup
	var lock sync.Mutex
	out := json.NewEncoder(os.Stdout)
	for range make([]struct{}, concurrency) {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for line := range plan {
				done := one(client, base, line)
				lock.Lock()
				out.Encode(done)
				lock.Unlock()
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

func one(client *http.Client, base string, line []string) call {
	sent, err := strconv.Atoi(line[2])
	if err != nil {
		log.Fatal(err)
	}
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
	start := time.Now()
	answer, err := client.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	received, err := io.Copy(io.Discard, answer.Body)
	if err != nil {
		log.Fatal(err)
	}
	answer.Body.Close()
	return call{line[0], line[1], answer.StatusCode, sent, received, start.UnixNano(), time.Now().UnixNano(), os.Getpid()}
}
