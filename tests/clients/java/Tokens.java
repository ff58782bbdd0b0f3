import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.LongSupplier;
import java.util.function.Supplier;
import javax.security.auth.callback.Callback;
import javax.security.auth.callback.UnsupportedCallbackException;
import javax.security.auth.login.AppConfigurationEntry;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.security.auth.AuthenticateCallbackHandler;
import org.apache.kafka.common.security.auth.SaslExtensionsCallback;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerToken;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerTokenCallback;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Gives the Java client its tokens, and what there is to try with them: see {@link Client}, which runs it. */
public final class Tokens implements AuthenticateCallbackHandler {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final AtomicInteger GIVEN = new AtomicInteger();
    private static Supplier<String> give;
    /** Until when a token is good, whatever it says itself. */
    private static LongSupplier until;

    @Override
    public void configure(Map<String, ?> configs, String mechanism, List<AppConfigurationEntry> entries) { }

    @Override
    public void close() { }

    @Override
    public void handle(Callback[] callbacks) throws IOException, UnsupportedCallbackException {
        for (Callback callback : callbacks) {
            if (callback instanceof OAuthBearerTokenCallback asked) {
                GIVEN.incrementAndGet();
                String token = give.get();
                asked.token(new Token(token, until == null ? expiry(token) : until.getAsLong()));
            } else if (!(callback instanceof SaslExtensionsCallback)) {
                throw new UnsupportedCallbackException(callback);
            }
        }
    }

    /** The client needs to know no more than this of a token. */
    private record Token(String value, long lifetimeMs) implements OAuthBearerToken {
        @Override
        public Set<String> scope() {
            return Set.of();
        }

        @Override
        public String principalName() {
            return "suite";
        }

        @Override
        public Long startTimeMs() {
            return System.currentTimeMillis();
        }
    }

    /** When a token says that it expires. */
    private static long expiry(String token) {
        try {
            byte[] claims = Base64.getUrlDecoder().decode(token.split("\\.")[1]);
            return JSON.readTree(claims).get("exp").asLong() * 1000;
        } catch (IOException error) {
            throw new AssertionError("no token: " + token, error);
        }
    }

    private static JsonNode door() throws IOException {
        return JSON.readTree(new File(System.getenv("DOOR")));
    }

    /** One that is good for `token_seconds`. */
    private static String fresh() {
        try {
            List<String> words = new ArrayList<>();
            door().get("make_token").forEach(word -> words.add(word.asText()));
            Process made = new ProcessBuilder(words).redirectError(ProcessBuilder.Redirect.DISCARD).start();
            String token = new String(made.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
            Client.check(made.waitFor() == 0, "no token was made");
            return token.trim();
        } catch (IOException | InterruptedException error) {
            throw new AssertionError(error);
        }
    }

    /** Has clients that are told {@link #LOGIN} get their tokens here for as long as the action runs. */
    private static <T> T with(Supplier<String> tokens, LongSupplier goodUntil, Callable<T> action) throws Exception {
        give = tokens;
        until = goodUntil;
        return action.call();
    }

    private static long later() {
        return System.currentTimeMillis() + 1_000_000;
    }

    private static final String[] LOGIN = {"sasl.login.callback.handler.class", "Tokens"};

    /** What is said of tokens that are no good, by what is wrong with them; null where there are none. */
    static Map<String, String> bad() throws Exception {
        JsonNode bad = door().get("bad_tokens");
        if (bad == null) {
            return null;
        }
        Map<String, String> said = new LinkedHashMap<>();
        for (var one : bad.properties()) {
            String token = one.getValue().asText();
            said.put(one.getKey(), with(() -> token, Tokens::later, () -> Client.turnedAway(LOGIN)));
        }
        Client.check(GIVEN.get() >= said.size(), "%d tokens were shown", GIVEN.get());
        return said;
    }

    private static KafkaProducer<byte[], byte[]> producer(String... more) {
        var properties = Client.properties(more);
        properties.put(LOGIN[0], LOGIN[1]);
        var bytes = new ByteArraySerializer();
        return new KafkaProducer<>(properties, bytes, bytes);
    }

    private static long end(int partition) throws Exception {
        return Client.offsets(Client.topic, OffsetSpec.latest()).get(partition);
    }

    /** Two clients with one login, which renews its token for three lifetimes, while one writes and one reads. */
    static Object renewal() throws Exception {
        String topic = Client.topic;
        long seconds = door().get("token_seconds").asLong();
        Client.create(Client.PARTITIONS, Map.of());
        Client.produce(topic, Client.everywhere(1), "enable.idempotence", "true");
        Map<String, Integer> seen = new ConcurrentHashMap<>();
        int[] counted = {1, 0};
        with(Tokens::fresh, null, () -> {
            var member = new Client.Member(seen, LOGIN);
            Client.await("the member has all partitions", Client.shared(member));
            try (var producer = producer()) {
                sendToAll(producer, counted[0]++);
                int before = GIVEN.get();
                long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(3 * seconds);
                while (System.nanoTime() < end) {
                    sendToAll(producer, counted[0]++);
                    Thread.sleep(50);
                }
                counted[1] = GIVEN.get() - before;
            }
            Client.await("all records seen", () -> seen.size() >= counted[0] * Client.PARTITIONS);
            member.leave();
            return null;
        });
        int count = counted[0];
        for (int p = 0; p < Client.PARTITIONS; p++) {
            Client.equal(Client.read(topic, p, Client.BEGINNING, count), Client.numbered(count, p, null));
            Client.check(end(p) == count, "partition %d has records twice", p);
        }
        Client.check(seen.size() == count * Client.PARTITIONS, "%d records seen", seen.size());
        // One login for three lifetimes: it asks at least twice more.
        Client.check(counted[1] >= 2, "%d tokens asked for", counted[1]);
        int twice = seen.values().stream().mapToInt(n -> n).sum() - seen.size();
        return Map.of("records", seen.size(), "tokens", counted[1], "seen twice", twice, "logs in again", true);
    }

    private static void sendToAll(KafkaProducer<byte[], byte[]> producer, int number) throws Exception {
        List<Future<?>> sent = new ArrayList<>();
        for (int p = 0; p < Client.PARTITIONS; p++) {
            sent.add(producer.send(Client.numbered(number + 1, p, null).get(number).to(Client.topic)));
        }
        for (var future : sent) {
            future.get(Client.SECONDS, TimeUnit.SECONDS);
        }
    }

    /** A producer whose token is not renewed writes until it has expired, and nothing afterwards. */
    static Object expiry() throws Exception {
        Client.create(1, Map.of());
        String token = fresh();
        long end = expiry(token);
        int[] taken = {0};
        String said = with(() -> token, Tokens::later, () -> {
            String why = null;
            try (var producer = producer("delivery.timeout.ms", "5000", "request.timeout.ms", "4000",
                    "linger.ms", "5", "max.block.ms", "5000")) {
                while (why == null) {
                    long began = System.currentTimeMillis();
                    var record = Client.numbered(taken[0] + 1, 0, null).get(taken[0]);
                    try {
                        producer.send(record.to(Client.topic)).get(Client.SECONDS, TimeUnit.SECONDS);
                    } catch (Exception refused) {
                        why = refused.toString();
                        continue;
                    }
                    // A login ends to the millisecond; the broker's clock is this one.
                    Client.check(began < end + 1000, "a record was taken %d ms after the token had expired", began - end);
                    taken[0]++;
                    Thread.sleep(50);
                }
            }
            Client.await("the token has expired", () -> System.currentTimeMillis() > end);
            Client.turnedAway(LOGIN);
            return why;
        });
        Client.check(taken[0] > 0, "no record was taken before: %s", said);
        Client.equal(Client.read(Client.topic, 0, Client.BEGINNING, taken[0]), Client.numbered(taken[0], 0, null));
        Client.check(end(0) == taken[0], "a record was written that was not acknowledged");
        return Map.of("records", taken[0], "said", said);
    }
}
