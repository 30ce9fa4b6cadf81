import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;

/**
 * The requests of standard input (METHOD, PATH, BODY BYTES, traceparent or '-', by tabs) with java.net.http over HTTP/2, to which it
 * upgrades each connection by its first request; what was done goes to standard output, one JSON object per line.
 * {@code H2Client BASE CONCURRENCY}
 */
public final class H2Client {
    public static void main(String[] args) throws Exception {
        var todo = new ConcurrentLinkedQueue<String>();
        try (var in = new BufferedReader(new InputStreamReader(System.in))) {
            in.lines().forEach(todo::add);
        }
        var client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_2).build();
        // The first one upgrades a connection, on which the others find their place.
        System.out.println(one(client, args[0], todo.remove().split("\t")));
        var done = new ConcurrentLinkedQueue<String>();
        int concurrency = Integer.parseInt(args[1]);
        var pool = Executors.newFixedThreadPool(concurrency);
        for (int i = 0; i < concurrency; i++) {
            pool.submit(() -> {
                try {
                    for (String line; (line = todo.poll()) != null; ) {
                        done.add(one(client, args[0], line.split("\t")));
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
