// The calls of standard input (one JSON object per line) by grpc-go; what was done goes to standard output, one JSON object
// per line: client PORT CONCURRENCY CHANNELS
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	echo "apps/grpc"
)

type planned struct {
	Id          string
	Method      string
	Count       int
	Size        int
	Pause       int
	Deadline    int
	Cancel      int
	Gzip        bool
	Traceparent string
	Do          string
}

type call struct {
	Id            string `json:"id"`
	Method        string `json:"method"`
	Code          int    `json:"code"`
	Message       string `json:"message"`
	Sent          int    `json:"sent"`
	SentBytes     int    `json:"sent_bytes"`
	Received      int    `json:"received"`
	ReceivedBytes int    `json:"received_bytes"`
	Start         int64  `json:"start"`
	End           int64  `json:"end"`
	Pid           int    `json:"pid"`
	Port          int    `json:"port"`
}

func main() {
	concurrency, _ := strconv.Atoi(os.Args[2])
	channels, _ := strconv.Atoi(os.Args[3])
	plan := make(chan planned)
	conns := make([]*grpc.ClientConn, channels)
	for i := range conns {
		credentials := grpc.WithTransportCredentials(insecure.NewCredentials())
		codec := grpc.WithDefaultCallOptions(grpc.ForceCodecV2(echo.Bytes{}))
		conn, err := grpc.NewClient("127.0.0.1:"+os.Args[1], credentials, codec)
		if err != nil {
			log.Fatal(err)
		}
		conns[i] = conn
	}
	var workers sync.WaitGroup
	var lock sync.Mutex
	out := json.NewEncoder(os.Stdout)
	for i := range concurrency {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for one := range plan {
				done := perform(conns[i%channels], one)
				lock.Lock()
				out.Encode(done)
				lock.Unlock()
			}
		}()
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var one planned
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			log.Fatal(err)
		}
		plan <- one
	}
	close(plan)
	workers.Wait()
	for _, conn := range conns {
		conn.Close()
	}
}

func perform(conn *grpc.ClientConn, one planned) call {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if one.Deadline > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(one.Deadline)*time.Millisecond)
		defer cancel()
	}
	if one.Cancel > 0 {
		defer time.AfterFunc(time.Duration(one.Cancel)*time.Millisecond, cancel).Stop()
	}
	ctx = metadata.AppendToOutgoingContext(ctx, "x-call", one.Id, "x-do", one.Do)
	if one.Traceparent != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "traceparent", one.Traceparent)
	}
	var options []grpc.CallOption
	if one.Gzip {
		options = append(options, grpc.UseCompressor("gzip"))
	}
	done := call{Id: one.Id, Method: one.Method, Pid: os.Getpid(), Start: time.Now().UnixNano()}
	err := exchange(ctx, conn, one, &done, options)
	done.End = time.Now().UnixNano()
	told := status.Convert(err)
	done.Code, done.Message = int(told.Code()), told.Message()
	return done
}

func exchange(ctx context.Context, conn *grpc.ClientConn, one planned, done *call, options []grpc.CallOption) error {
	message := make([]byte, one.Size)
	var reply []byte
	received := func() {
		done.Received++
		done.ReceivedBytes += len(reply)
	}
	name := one.Method[strings.LastIndex(one.Method, "/")+1:]
	if name != "Collect" && name != "Spread" && name != "Chat" {
		done.Sent, done.SentBytes = 1, one.Size
		err := conn.Invoke(ctx, "/"+one.Method, &message, &reply, options...)
		if err == nil {
			received()
			if name == "Where" {
				done.Port, _ = strconv.Atoi(string(reply))
			}
		}
		return err
	}
	kind := grpc.StreamDesc{ClientStreams: name != "Spread", ServerStreams: name != "Collect"}
	stream, err := conn.NewStream(ctx, &kind, "/"+one.Method, options...)
	if err != nil {
		return err
	}
	for i := range one.Count {
		if i > 0 && one.Pause > 0 {
			time.Sleep(time.Duration(one.Pause) * time.Millisecond)
		}
		if err := stream.SendMsg(&message); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		done.Sent++
		done.SentBytes += one.Size
		if name == "Chat" {
			if err := stream.RecvMsg(&reply); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
			received()
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for {
		if err := stream.RecvMsg(&reply); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		received()
	}
}
