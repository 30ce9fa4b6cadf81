// etcd's own client at work: puts, gets, transactions, deletions, a watch, a lease. Interceptors below everything that the
// client does write each call down as the echo client does: etcd PORT CONCURRENCY KEYS
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

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

var (
	lock sync.Mutex
	next atomic.Int64
	open sync.WaitGroup
)

func begin(ctx context.Context, method string) (context.Context, *call) {
	open.Add(1)
	id := fmt.Sprintf("etcd%dn%d", os.Getpid(), next.Add(1))
	ctx = metadata.AppendToOutgoingContext(ctx, "x-call", id)
	return ctx, &call{Id: id, Method: strings.TrimPrefix(method, "/"), Pid: os.Getpid(), Start: time.Now().UnixNano()}
}

func (done *call) end(err error) {
	done.End = time.Now().UnixNano()
	told := status.Convert(err)
	done.Code, done.Message = int(told.Code()), told.Message()
	lock.Lock()
	defer lock.Unlock()
	json.NewEncoder(os.Stdout).Encode(done)
	open.Done()
}

func size(message any) int { return message.(interface{ Size() int }).Size() }

func (done *call) sent(message any)     { done.Sent++; done.SentBytes += size(message) }
func (done *call) received(message any) { done.Received++; done.ReceivedBytes += size(message) }

func unary(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	ctx, done := begin(ctx, method)
	done.sent(request)
	err := invoke(ctx, method, request, reply, conn, options...)
	if err == nil {
		done.received(reply)
	}
	done.end(err)
	return err
}

// A stream that counts. One goroutine reads it, and it is over when that reads an error.
type counting struct {
	grpc.ClientStream
	done *call
	lock sync.Mutex
	over bool
}

func stream(ctx context.Context, kind *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx, done := begin(ctx, method)
	inner, err := open(ctx, kind, conn, method, options...)
	if err != nil {
		done.end(err)
		return nil, err
	}
	return &counting{ClientStream: inner, done: done}, nil
}

func (stream *counting) SendMsg(message any) error {
	err := stream.ClientStream.SendMsg(message)
	stream.lock.Lock()
	defer stream.lock.Unlock()
	if err == nil && !stream.over {
		stream.done.sent(message)
	}
	return err
}

func (stream *counting) RecvMsg(message any) error {
	err := stream.ClientStream.RecvMsg(message)
	stream.lock.Lock()
	defer stream.lock.Unlock()
	if stream.over {
		return err
	}
	if err == nil {
		stream.done.received(message)
		return nil
	}
	stream.over = true
	if err == io.EOF {
		stream.done.end(nil)
	} else {
		stream.done.end(err)
	}
	return err
}

func main() {
	concurrency, _ := strconv.Atoi(os.Args[2])
	keys, _ := strconv.Atoi(os.Args[3])
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"127.0.0.1:" + os.Args[1]},
		DialOptions: []grpc.DialOption{
			grpc.WithChainUnaryInterceptor(unary),
			grpc.WithChainStreamInterceptor(stream),
		},
	})
	check(err)
	ctx := context.Background()
	lease, err := client.Grant(ctx, 600)
	check(err)
	alive, stop := context.WithCancel(ctx)
	kept, err := client.KeepAlive(alive, lease.ID)
	check(err)
	<-kept
	watching, unwatch := context.WithCancel(ctx)
	events := client.Watch(watching, "key", clientv3.WithPrefix())
	// What is deleted below is among them: twice a key.
	seen := make(chan error)
	go func() {
		for n := 0; n < 2*keys; {
			answer, ok := <-events
			if !ok || answer.Err() != nil {
				seen <- fmt.Errorf("watch ended: %v", answer.Err())
				return
			}
			n += len(answer.Events)
		}
		close(seen)
	}()
	work := make(chan int)
	var workers sync.WaitGroup
	for range concurrency {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for i := range work {
				key := fmt.Sprintf("key%d", i)
				_, err := client.Put(ctx, key, strings.Repeat("v", i*37%5000), clientv3.WithLease(lease.ID))
				check(err)
				_, err = client.Get(ctx, key)
				check(err)
				_, err = client.Txn(ctx).If(clientv3.Compare(clientv3.Version(key), "=", 0)).Then(clientv3.OpPut(key, "x")).Commit()
				check(err)
				_, err = client.Delete(ctx, key)
				check(err)
			}
		}()
	}
	for i := range keys {
		work <- i
	}
	close(work)
	workers.Wait()
	check(<-seen)
	// A lease that is not there.
	if _, err = client.Revoke(ctx, 4711); err == nil {
		log.Fatal("a lease that nobody granted was revoked")
	}
	unwatch()
	stop()
	_, err = client.Revoke(ctx, lease.ID)
	check(err)
	client.Close()
	open.Wait()
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
