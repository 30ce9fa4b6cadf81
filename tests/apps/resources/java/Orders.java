import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;

/** {@code java -jar orders.jar PORT} answers with its process id. */
public final class Orders {
    public static void main(String[] args) throws Exception {
        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])), 16);
        server.createContext("/", exchange -> {
            byte[] body = String.valueOf(ProcessHandle.current().pid()).getBytes();
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
    }
}
