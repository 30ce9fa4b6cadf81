// WebSocket sessions on gorilla/websocket and coder/websocket, event streams and long polling on net/http, as in
// ../../../python/rides. Arguments: server PORT, or client URL COMPRESSION with the sessions on standard input.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	coder "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	check(err)
	return n
}

// What a text message asks for.
func words(isText bool, message []byte) []string {
	if !isText {
		return []string{""}
	}
	return append(strings.Fields(string(message)), "")
}

func onGorilla(w http.ResponseWriter, r *http.Request) {
	upgrader := gorilla.Upgrader{}
	session, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer session.Close()
	for {
		kind, message, err := session.ReadMessage()
		if err != nil {
			return
		}
		switch words := words(kind == gorilla.TextMessage, message); words[0] {
		case "push":
			for i := 0; i < number(words[1]); i++ {
				session.WriteMessage(gorilla.BinaryMessage, bytes.Repeat([]byte("p"), number(words[2])))
			}
		case "bye":
			text := gorilla.FormatCloseMessage(number(words[1]), "")
			session.WriteControl(gorilla.CloseMessage, text, time.Now().Add(time.Second))
		default:
			session.WriteMessage(kind, message)
		}
	}
}

func onCoder(w http.ResponseWriter, r *http.Request) {
	session, err := coder.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer session.CloseNow()
	session.SetReadLimit(-1)
	ctx := context.Background()
	for {
		kind, message, err := session.Read(ctx)
		if err != nil {
			return
		}
		switch words := words(kind == coder.MessageText, message); words[0] {
		case "push":
			for i := 0; i < number(words[1]); i++ {
				session.Write(ctx, coder.MessageBinary, bytes.Repeat([]byte("p"), number(words[2])))
			}
		case "bye":
			session.Close(coder.StatusCode(number(words[1])), "")
			return
		default:
			session.Write(ctx, kind, message)
		}
	}
}

func events(w http.ResponseWriter, r *http.Request) {
	words := strings.Split(r.URL.Path, "/")
	count, gap := number(words[2]), time.Duration(number(words[3]))*time.Millisecond
	w.Header().Set("content-type", "text/event-stream")
	for n := 0; n < count || count == 0; n++ {
		if _, err := fmt.Fprintf(w, "id: %d\ndata: %s\n\n", n, strings.Repeat("x", 20)); err != nil {
			return
		}
		w.(http.Flusher).Flush()
		select {
		case <-time.After(gap):
		case <-r.Context().Done():
			return
		}
	}
}

// An event, and the end when all of the same number are released.
func hold(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("content-type", "text/event-stream")
	fmt.Fprint(w, "data: held\n\n")
	w.(http.Flusher).Flush()
	<-released[r.PathValue("number")]
}

func release(w http.ResponseWriter, r *http.Request) {
	close(released[r.PathValue("number")])
}

var released = map[string]chan struct{}{}

func wait(w http.ResponseWriter, r *http.Request) {
	words := strings.Split(r.URL.Path, "/")
	time.Sleep(time.Duration(number(words[2])) * time.Millisecond)
	fmt.Fprint(w, "done")
}

type plan struct {
	Path  string  `json:"path"`
	Ops   [][]any `json:"ops"`
	Close [2]any  `json:"close"`
}

type told struct {
	Path     string `json:"path"`
	Sent     []int  `json:"sent"`
	Received []int  `json:"received"`
	Code     *int   `json:"code"`
}

func run(base, compression string, plan plan) {
	told := told{Path: plan.Path, Sent: []int{}, Received: []int{}}
	dialer := gorilla.Dialer{EnableCompression: compression != "none"}
	session, _, err := dialer.Dial(base+plan.Path, nil)
	check(err)
	send := func(kind int, message []byte) {
		check(session.WriteMessage(kind, message))
		told.Sent = append(told.Sent, len(message))
	}
	receive := func() error {
		_, message, err := session.ReadMessage()
		if err == nil {
			told.Received = append(told.Received, len(message))
		}
		return err
	}
	size := func(n any) int { return int(n.(float64)) }
	for _, op := range plan.Ops {
		if op[0] == "echo" {
			send(gorilla.BinaryMessage, bytes.Repeat([]byte("e"), size(op[1])))
			check(receive())
			continue
		}
		send(gorilla.TextMessage, []byte(fmt.Sprintf("push %d %d", size(op[1]), size(op[2]))))
		for i := 0; i < size(op[1]); i++ {
			check(receive())
		}
	}
	tcp := session.UnderlyingConn().(*net.TCPConn)
	switch plan.Close[0] {
	case "client":
		text := gorilla.FormatCloseMessage(size(plan.Close[1]), "")
		check(session.WriteControl(gorilla.CloseMessage, text, time.Now().Add(time.Second)))
	case "server":
		send(gorilla.TextMessage, []byte(fmt.Sprintf("bye %d", size(plan.Close[1]))))
	case "reset":
		tcp.SetLinger(0)
		tcp.Close()
	default:
		tcp.Close()
	}
	var closed *gorilla.CloseError
	if plan.Close[0] == "client" || plan.Close[0] == "server" {
		if errors.As(receive(), &closed) {
			told.Code = &closed.Code
		}
	}
	session.Close()
	line, err := json.Marshal(told)
	check(err)
	fmt.Println(string(line))
}

func main() {
	if os.Args[1] == "server" {
		http.HandleFunc("/gorilla/", onGorilla)
		http.HandleFunc("/coder/", onCoder)
		http.HandleFunc("/events/", events)
		http.HandleFunc("/wait/", wait)
		for number := range 100 {
			released[strconv.Itoa(number)] = make(chan struct{})
		}
		http.HandleFunc("/hold/{number}/{id}", hold)
		http.HandleFunc("/release/{number}", release)
		check(http.ListenAndServe("127.0.0.1:"+os.Args[2], nil))
	}
	var plans []plan
	check(json.NewDecoder(os.Stdin).Decode(&plans))
	for _, plan := range plans {
		run(os.Args[2], os.Args[3], plan)
	}
}
