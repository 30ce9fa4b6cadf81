import com.google.gson.Gson;
import com.google.gson.annotations.SerializedName;
import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Instant;
import java.util.ArrayList;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executors;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

/**
 * The calls of standard input (one JSON object per line) by grpc-java; what was done goes to standard output, one JSON object per
 * line. {@code GrpcClient PORT CONCURRENCY CHANNELS}
 */
public final class GrpcClient {
    private static final class Planned {
        String id;
        String method;
        int count;
        int size;
        int pause;
        int deadline;
        int cancel;
        boolean gzip;
        String traceparent;
        @SerializedName("do")
        String wish;
    }

    @SuppressWarnings("unused")
    private static final class Call {
        String id;
        String method;
        int code;
        String message;
        int sent;
        int sent_bytes;
        int received;
        int received_bytes;
        long start = now();
        long end;
        long pid = ProcessHandle.current().pid();
        int port;
    }

    private static final Gson GSON = new Gson();
    private static final Planned LAST = new Planned();
    private static final ScheduledExecutorService TIMER = Executors.newScheduledThreadPool(1, task -> {
        var thread = new Thread(task);
        thread.setDaemon(true);
        return thread;
    });

    public static void main(String[] args) throws Exception {
        int concurrency = Integer.parseInt(args[1]);
        var channels = new ArrayList<ManagedChannel>();
        for (int i = 0; i < Integer.parseInt(args[2]); i++) {
            channels.add(NettyChannelBuilder.forAddress("127.0.0.1", Integer.parseInt(args[0])).usePlaintext().build());
        }
        var plan = new ArrayBlockingQueue<Planned>(concurrency);
        var workers = Executors.newFixedThreadPool(concurrency);
        for (int i = 0; i < concurrency; i++) {
            var channel = channels.get(i % channels.size());
            workers.submit(() -> {
                for (Planned one; (one = plan.take()) != LAST; ) {
                    var line = GSON.toJson(perform(channel, one));
                    synchronized (plan) {
                        System.out.println(line);
                    }
                }
                return null;
            });
        }
        try (var in = new BufferedReader(new InputStreamReader(System.in))) {
            for (String line; (line = in.readLine()) != null; ) {
                plan.put(GSON.fromJson(line, Planned.class));
            }
        }
        for (int i = 0; i < concurrency; i++) {
            plan.put(LAST);
        }
        workers.shutdown();
        if (!workers.awaitTermination(300, TimeUnit.SECONDS)) {
            System.exit(1);
        }
        for (var channel : channels) {
            channel.shutdown().awaitTermination(10, TimeUnit.SECONDS);
        }
    }

    private static Call perform(ManagedChannel channel, Planned one) throws Exception {
        var done = new Call();
        done.id = one.id;
        done.method = one.method;
        var options = CallOptions.DEFAULT;
        if (one.deadline > 0) {
            options = options.withDeadlineAfter(one.deadline, TimeUnit.MILLISECONDS);
        }
        if (one.gzip) {
            options = options.withCompression("gzip");
        }
        var headers = new Metadata();
        headers.put(GrpcEcho.key("x-call"), one.id);
        headers.put(GrpcEcho.key("x-do"), one.wish);
        if (!one.traceparent.isEmpty()) {
            headers.put(GrpcEcho.key("traceparent"), one.traceparent);
        }
        var name = one.method.substring(one.method.lastIndexOf('/') + 1);
        var call = channel.newCall(GrpcEcho.method(one.method), options);
        var replies = new LinkedBlockingQueue<byte[]>();
        var over = new CompletableFuture<Status>();
        call.start(new ClientCall.Listener<>() {
            @Override
            public void onMessage(byte[] reply) {
                done.received += 1;
                done.received_bytes += reply.length;
                if (name.equals("Where")) {
                    done.port = Integer.parseInt(new String(reply));
                }
                replies.add(reply);
                call.request(1);
            }

            @Override
            public void onClose(Status status, Metadata trailers) {
                over.complete(status);
                replies.add(new byte[0]);
            }
        }, headers);
        call.request(2);
        var timer = one.cancel == 0 ? null : TIMER.schedule(
                () -> call.cancel("as planned", null), one.cancel, TimeUnit.MILLISECONDS);
        boolean streams = name.equals("Collect") || name.equals("Chat");
        try {
            for (int i = 0; i < (streams ? one.count : 1) && !over.isDone(); i++) {
                if (i > 0 && one.pause > 0) {
                    Thread.sleep(one.pause);
                }
                call.sendMessage(new byte[one.size]);
                done.sent += 1;
                done.sent_bytes += one.size;
                if (name.equals("Chat")) {
                    replies.take();
                }
            }
            call.halfClose();
        } catch (IllegalStateException error) {
            // Cancelled meanwhile.
        }
        var status = over.get();
        if (timer != null) {
            timer.cancel(false);
        }
        done.end = now();
        done.code = status.getCode().value();
        done.message = status.getDescription() == null ? "" : status.getDescription();
        return done;
    }

    private static long now() {
        var now = Instant.now();
        return now.getEpochSecond() * 1_000_000_000 + now.getNano();
    }
}
