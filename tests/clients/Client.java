import java.net.*;
import java.net.http.*;
import java.util.function.Supplier;
import java.io.ByteArrayInputStream;

class Client {
    static final String BASE = "http://169.254.169.254";

    public static void main(String[] words) throws Exception {
        for (int n = 0; n < 3; n++) {
            var link = (HttpURLConnection) new URL(BASE + "/connection" + n).openConnection();
            link.setRequestProperty("Metadata", "true");
            if (n > 0) {
                link.setDoOutput(true);
                if (n > 1) link.setChunkedStreamingMode(100);
                link.getOutputStream().write(new byte[1000]);
            }
            System.out.println(link.getResponseCode() + new String(link.getInputStream().readAllBytes()));
        }
        var client = HttpClient.newHttpClient();
        var stream = HttpRequest.BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(new byte[3000]));
        HttpRequest[] requests = {
            HttpRequest.newBuilder(URI.create(BASE + "/http")).build(),
            HttpRequest.newBuilder(URI.create(BASE + "/missing")).build(),
            HttpRequest.newBuilder(URI.create(BASE + "/expect")).expectContinue(true)
                .POST(HttpRequest.BodyPublishers.ofByteArray(new byte[3000])).build(),
            HttpRequest.newBuilder(URI.create(BASE + "/stream")).POST(stream).version(HttpClient.Version.HTTP_1_1).build(),
        };
        for (var request : requests) {
            var answer = client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(answer.statusCode() + answer.body());
        }
    }
}
