import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.Grpc;
import io.grpc.Metadata;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.ServerInterceptors;
import io.grpc.ServerServiceDefinition;
import io.grpc.Status;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.ServerCalls;
import io.grpc.stub.StreamObserver;
import java.net.InetSocketAddress;
import java.util.concurrent.Executors;

/** The echo services by grpc-java, a pool of threads: {@code GrpcServer PORT} */
public final class GrpcServer {
    /** Replies, their size, the status and milliseconds to wait. */
    private record Wish(int replies, int size, int status, int sleep) {}

    private static final Context.Key<Wish> WISH = Context.key("wish");
    private static final Context.Key<Integer> PEER = Context.key("peer");

    public static void main(String[] args) throws Exception {
        var builder = NettyServerBuilder.forAddress(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])));
        builder.executor(Executors.newFixedThreadPool(80));
        for (int i = 0; i < GrpcEcho.SERVICES; i++) {
            builder.addService(ServerInterceptors.intercept(service("test.Echo" + i), new Wishes()));
        }
        builder.build().start().awaitTermination();
    }

    private static ServerServiceDefinition service(String name) {
        return ServerServiceDefinition.builder(name)
                .addMethod(GrpcEcho.method(name + "/Unary"), ServerCalls.asyncUnaryCall((in, out) -> answer(WISH.get(), out)))
                .addMethod(GrpcEcho.method(name + "/Where"), ServerCalls.asyncUnaryCall((in, out) -> {
                    out.onNext(Integer.toString(PEER.get()).getBytes());
                    out.onCompleted();
                }))
                .addMethod(GrpcEcho.method(name + "/Collect"), ServerCalls.asyncClientStreamingCall(GrpcServer::collect))
                .addMethod(GrpcEcho.method(name + "/Spread"), ServerCalls.asyncServerStreamingCall((in, out) -> {
                    var wish = WISH.get();
                    for (int i = 0; i < wish.replies; i++) {
                        out.onNext(new byte[wish.size]);
                    }
                    finish(wish, out);
                }))
                .addMethod(GrpcEcho.method(name + "/Chat"), ServerCalls.asyncBidiStreamingCall(GrpcServer::chat))
                .build();
    }

    private static void answer(Wish wish, StreamObserver<byte[]> out) {
        if (pause(wish, out)) {
            out.onNext(new byte[wish.size]);
            out.onCompleted();
        }
    }

    private static void finish(Wish wish, StreamObserver<byte[]> out) {
        if (pause(wish, out)) {
            out.onCompleted();
        }
    }

    /** Whether the call is to go on behind that. */
    private static boolean pause(Wish wish, StreamObserver<byte[]> out) {
        try {
            Thread.sleep(wish.sleep);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
        var calls = (ServerCallStreamObserver<byte[]>) out;
        if (calls.isCancelled()) {
            return false;
        }
        if (wish.status != 0) {
            out.onError(Status.fromCodeValue(wish.status).withDescription("as wished: €").asException());
        }
        return wish.status == 0;
    }

    private static StreamObserver<byte[]> collect(StreamObserver<byte[]> out) {
        var wish = WISH.get();
        return observer(() -> {}, () -> answer(wish, out));
    }

    private static StreamObserver<byte[]> chat(StreamObserver<byte[]> out) {
        var wish = WISH.get();
        var left = new int[] {wish.replies};
        return observer(() -> {
            if (left[0]-- > 0) {
                out.onNext(new byte[wish.size]);
                if (left[0] == 0) {
                    finish(wish, out);
                }
            }
        }, () -> {
            if (left[0] > 0) {
                finish(wish, out);
            }
        });
    }

    private static StreamObserver<byte[]> observer(Runnable next, Runnable end) {
        return new StreamObserver<>() {
            @Override
            public void onNext(byte[] message) {
                next.run();
            }

            @Override
            public void onError(Throwable error) {}

            @Override
            public void onCompleted() {
                end.run();
            }
        };
    }

    private static final class Wishes implements ServerInterceptor {
        private static final Metadata.Key<String> DO = GrpcEcho.key("x-do");

        @Override
        public <Q, A> ServerCall.Listener<Q> interceptCall(
                ServerCall<Q, A> call, Metadata headers, ServerCallHandler<Q, A> next) {
            var peer = (InetSocketAddress) call.getAttributes().get(Grpc.TRANSPORT_ATTR_REMOTE_ADDR);
            var text = headers.containsKey(DO) ? headers.get(DO) : "0,0,0,0";
            var parts = text.split(",");
            var wish = new Wish(
                    Integer.parseInt(parts[0]), Integer.parseInt(parts[1]),
                    Integer.parseInt(parts[2]), Integer.parseInt(parts[3]));
            var context = Context.current().withValues(WISH, wish, PEER, peer.getPort());
            return Contexts.interceptCall(context, call, headers, next);
        }
    }
}
