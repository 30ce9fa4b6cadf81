import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.Arrays;
import java.util.concurrent.Executors;

/** The service on the JDK's own server with a pool of threads. {@code Server PORT THREADS url|httpclient} */
public final class Server {
    private static final String NEXT = System.getenv().getOrDefault("NEXT", "");
    private static final HttpClient CLIENT = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    private static boolean viaHttpClient;

    public static void main(String[] args) throws IOException {
        viaHttpClient = args[2].equals("httpclient");
        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])), 1024);
        server.setExecutor(Executors.newFixedThreadPool(Integer.parseInt(args[1])));
        server.createContext("/", Server::serve);
        server.start();
    }

    private static void serve(HttpExchange exchange) throws IOException {
        try (exchange) {
            byte[] body = exchange.getRequestBody().readAllBytes();
            String[] path = exchange.getRequestURI().getPath().substring(1).split("/");
            switch (path[0]) {
                case "hello" -> send(exchange, 200, ("hello " + path[1] + "\n").getBytes());
                case "echo" -> send(exchange, 200, body);
                case "bytes" -> send(exchange, 200, filled('x', Integer.parseInt(path[1])));
                case "stream" -> stream(exchange, Integer.parseInt(path[1]));
                case "status" -> {
                    int code = Integer.parseInt(path[1]);
                    send(exchange, code, code == 204 || code == 304 ? new byte[0] : ("status " + code + "\n").getBytes());
                }
                case "sleep" -> {
                    Thread.sleep(Long.parseLong(path[1]));
                    send(exchange, 200, "slept\n".getBytes());
                }
                case "call" -> send(exchange, 200, call(URI.create(NEXT + "/hello/" + path[1])));
                default -> send(exchange, 404, "no such page\n".getBytes());
            }
        } catch (InterruptedException e) {
            throw new IOException(e);
        }
    }

    private static byte[] call(URI uri) throws IOException, InterruptedException {
        if (viaHttpClient) {
            return CLIENT.send(HttpRequest.newBuilder(uri).build(), HttpResponse.BodyHandlers.ofByteArray()).body();
        }
        var connection = (HttpURLConnection) uri.toURL().openConnection();
        try (InputStream in = connection.getInputStream()) {
            return in.readAllBytes();
        }
    }

    private static void stream(HttpExchange exchange, int count) throws IOException {
        exchange.sendResponseHeaders(200, 0);
        try (OutputStream out = exchange.getResponseBody()) {
            for (int left = count; left > 0; left -= 1000) {
                out.write(filled('y', Math.min(left, 1000)));
                out.flush();
            }
        }
    }

    private static void send(HttpExchange exchange, int status, byte[] body) throws IOException {
        boolean head = exchange.getRequestMethod().equals("HEAD");
        exchange.sendResponseHeaders(status, body.length == 0 || head ? -1 : body.length);
        if (!head && body.length > 0) {
            exchange.getResponseBody().write(body);
        }
    }

    private static byte[] filled(char with, int count) {
        byte[] bytes = new byte[count];
        Arrays.fill(bytes, (byte) with);
        return bytes;
    }
}
