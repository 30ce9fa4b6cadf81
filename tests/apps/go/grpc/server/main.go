// The echo services by grpc-go: server PORT
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	echo "apps/grpc"
)

func main() {
	server := grpc.NewServer(grpc.ForceServerCodecV2(echo.Bytes{}))
	for i := range 16 {
		server.RegisterService(service(fmt.Sprintf("test.Echo%d", i)), nil)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(server.Serve(listener))
}

func service(name string) *grpc.ServiceDesc {
	unary := func(answer func(context.Context, echo.Wish) ([]byte, error)) grpc.MethodHandler {
		return func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var message []byte
			if err := decode(&message); err != nil {
				return nil, err
			}
			reply, err := answer(ctx, wish(ctx))
			return &reply, err
		}
	}
	return &grpc.ServiceDesc{
		ServiceName: name,
		Methods: []grpc.MethodDesc{
			{MethodName: "Unary", Handler: unary(func(ctx context.Context, wish echo.Wish) ([]byte, error) {
				return make([]byte, wish.Size), finish(ctx, wish)
			})},
			{MethodName: "Where", Handler: unary(func(ctx context.Context, _ echo.Wish) ([]byte, error) {
				caller, _ := peer.FromContext(ctx)
				_, port, err := net.SplitHostPort(caller.Addr.String())
				return []byte(port), err
			})},
		},
		Streams: []grpc.StreamDesc{
			{StreamName: "Collect", Handler: collect, ClientStreams: true},
			{StreamName: "Spread", Handler: spread, ServerStreams: true},
			{StreamName: "Chat", Handler: chat, ClientStreams: true, ServerStreams: true},
		},
	}
}

func collect(_ any, stream grpc.ServerStream) error {
	var message []byte
	for {
		if err := stream.RecvMsg(&message); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
	}
	wish := wish(stream.Context())
	if err := finish(stream.Context(), wish); err != nil {
		return err
	}
	reply := make([]byte, wish.Size)
	return stream.SendMsg(&reply)
}

func spread(_ any, stream grpc.ServerStream) error {
	var message []byte
	if err := stream.RecvMsg(&message); err != nil {
		return err
	}
	wish := wish(stream.Context())
	reply := make([]byte, wish.Size)
	for range wish.Replies {
		if err := stream.SendMsg(&reply); err != nil {
			return err
		}
	}
	return finish(stream.Context(), wish)
}

func chat(_ any, stream grpc.ServerStream) error {
	wish := wish(stream.Context())
	var message []byte
	reply := make([]byte, wish.Size)
	for range wish.Replies {
		if err := stream.RecvMsg(&message); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		if err := stream.SendMsg(&reply); err != nil {
			return err
		}
	}
	return finish(stream.Context(), wish)
}

func wish(ctx context.Context) echo.Wish {
	if values := metadata.ValueFromIncomingContext(ctx, "x-do"); len(values) > 0 {
		return echo.Parse(values[0])
	}
	return echo.Wish{}
}

// The wait and the status that were wished for.
func finish(ctx context.Context, wish echo.Wish) error {
	if wish.Sleep > 0 {
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-time.After(time.Duration(wish.Sleep) * time.Millisecond):
		}
	}
	if wish.Status != 0 {
		return status.Error(codes.Code(wish.Status), "as wished: €")
	}
	return nil
}
