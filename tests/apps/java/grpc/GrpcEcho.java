import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.MethodType;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;

/** What client and server share: methods whose messages are bytes, those of test.Echo0 to test.Echo15. */
final class GrpcEcho {
    static final int SERVICES = 16;

    private GrpcEcho() {}

    static Metadata.Key<String> key(String name) {
        return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
    }

    static MethodDescriptor<byte[], byte[]> method(String path) {
        var type = switch (path.substring(path.lastIndexOf('/') + 1)) {
            case "Collect" -> MethodType.CLIENT_STREAMING;
            case "Spread" -> MethodType.SERVER_STREAMING;
            case "Chat" -> MethodType.BIDI_STREAMING;
            default -> MethodType.UNARY;
        };
        return MethodDescriptor.newBuilder(new Bytes(), new Bytes()).setType(type).setFullMethodName(path).build();
    }

    private static final class Bytes implements MethodDescriptor.Marshaller<byte[]> {
        @Override
        public InputStream stream(byte[] message) {
            return new ByteArrayInputStream(message);
        }

        @Override
        public byte[] parse(InputStream stream) {
            try {
                return stream.readAllBytes();
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }
    }
}
