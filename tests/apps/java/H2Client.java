import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.ArrayList;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * The requests of standard input (METHOD, PATH, BODY BYTES, traceparent or '-', by tabs) with java.net.http over HTTP/2, to which it
 * upgrades each connection by its first request; what was done goes to standard output, one JSON object per line.
 * {@code H2Client client BASE CONCURRENCY}
 * {@code H2Client busy BASE CONNECTIONS STREAMS MILLIS}: requests on each connection until standard input ends
 */
public final class H2Client {
    public static void main(String[] args) throws Exception {
        if (args[0].equals("busy")) {
            busy(args[1], Integer.parseInt(args[2]), Integer.parseInt(args[3]), Integer.parseInt(args[4]));
        } else {
            client(args[1], Integer.parseInt(args[2]));
        }
    }

    private static HttpClient caller() {
        return HttpClient.newBuilder().version(HttpClient.Version.HTTP_2).build();
    }

    private static void client(String base, int concurrency) throws Exception {
        var todo = new ConcurrentLinkedQueue<String>();
        try (var in = new BufferedReader(new InputStreamReader(System.in))) {
            in.lines().forEach(todo::add);
        }
        var client = caller();
        // The first one upgrades a connection, on which the others find their place.
        System.out.println(one(client, base, todo.remove().split("\t")));
        var done = new ConcurrentLinkedQueue<String>();
        var pool = Executors.newFixedThreadPool(concurrency);
        for (int i = 0; i < concurrency; i++) {
            pool.submit(() -> {
                try {
                    for (String line; (line = todo.poll()) != null; ) {
                        done.add(one(client, base, line.split("\t")));
                    }
                } catch (Exception error) {
                    error.printStackTrace();
                    System.exit(1);
                }
                return null;
            });
        }
        pool.shutdown();
        if (!pool.awaitTermination(300, TimeUnit.SECONDS)) {
            System.exit(1);
        }
        done.forEach(System.out::println);
    }

    /**
     * Each body has a size of its own, which tells the exchanges apart where nothing else does. Half of the paths come only once,
     * half of them again and again.
     */
    private static void busy(String base, int connections, int streams, int millis) throws Exception {
        var over = new AtomicBoolean();
        long pid = ProcessHandle.current().pid();
        var workers = new ArrayList<Thread>();
        for (int i = 0; i < connections; i++) {
            int connection = i;
            var client = caller();
            var count = new AtomicInteger();
            Callable<Void> repeat = () -> {
                int n = count.incrementAndGet();
                var path = n % 2 == 0 ? "/echo/again" + n / 2 % 8 : "/echo/" + pid + "c" + connection + "n" + n;
                var size = String.valueOf(n * connections + connection);
                System.out.println(one(client, base, new String[] {"POST", path, size, "-"}));
                Thread.sleep(millis);
                return null;
            };
            // The connection is there before several streams need it.
            repeat.call();
            for (int stream = 0; stream < streams; stream++) {
                workers.add(new Thread(() -> {
                    try {
                        while (!over.get()) {
                            repeat.call();
                        }
                    } catch (Exception error) {
                        error.printStackTrace();
                        System.exit(1);
                    }
                }));
            }
        }
        workers.forEach(Thread::start);
        System.in.readAllBytes();
        over.set(true);
        for (var worker : workers) {
            worker.join();
        }
        // Threads of the clients live on.
        System.exit(0);
    }

    private static String one(HttpClient client, String base, String[] call) throws Exception {
        int size = Integer.parseInt(call[2]);
        var body = size > 0
                ? HttpRequest.BodyPublishers.ofByteArray("b".repeat(size).getBytes())
                : HttpRequest.BodyPublishers.noBody();
        var request = HttpRequest.newBuilder(URI.create(base + call[1])).method(call[0], body);
        if (!call[3].equals("-")) {
            request.header("traceparent", call[3]);
        }
        long start = now();
        // What comes but once drives what came before out of the connection's table.
        request.header("x-request-id", String.format("%016x-%016x", ProcessHandle.current().pid(), start));
        var answer = client.send(request.build(), HttpResponse.BodyHandlers.ofByteArray());
        if (answer.version() != HttpClient.Version.HTTP_2) {
            throw new IllegalStateException("not HTTP/2");
        }
        return String.format(
                "{\"method\":\"%s\",\"path\":\"%s\",\"status\":%d,\"sent\":%d,\"received\":%d,\"start\":%d,\"end\":%d,\"pid\":%d}",
                call[0], call[1], answer.statusCode(), size, answer.body().length, start, now(), ProcessHandle.current().pid());
    }

    private static long now() {
        var now = java.time.Instant.now();
        return now.getEpochSecond() * 1_000_000_000L + now.getNano();
    }
}
