import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.common.errors.AuthenticationException;

/** The tools on a server where one has to log in, and where requests need rights: see {@link Tools}, which runs them. */
final class Secure {
    private static final Tools.Main ACLS = org.apache.kafka.tools.AclCommand::main;

    static final Map<String, Callable<Object>> SCENARIOS = Map.of(
        "round-trip", Secure::roundTrip,
        "bad-credentials", Secure::badCredentials,
        "token-renewal", Secure::tokenRenewal,
        "acls-tool", Secure::acls,
        "users-tool", Secure::users,
        "tokens-tool", Secure::tokens);

    private Secure() { }

    /** Some of the other scenarios, one after the other, and what nobody has given a right to. */
    private static Object roundTrip() throws Exception {
        String base = Tools.topic;
        List<String> done = List.of("topics", "acks-all", "commit-auto");
        for (String name : done) {
            Tools.topic = base + "-" + name;
            Tools.scenario(name).call();
        }
        Tools.Ran denied = Tools.refused(Tools.TOPICS, "--create", "--topic", "other-" + base, "--partitions", "1");
        Tools.check(denied.code() == 1, "exit %d: %s", denied.code(), denied.text());
        // In our words, or in Apache Kafka's.
        Tools.containsOne(Tools.complaints() + denied.text(), "you lack the right", "Authorization failed");
        return done;
    }

    /** A tool that can't log in says so. */
    private static Object badCredentials() throws Exception {
        Tools.Ran ran = Tools.refused(Tools.TOPICS, "--list");
        Tools.check(ran.code() == 1, "exit %d: %s", ran.code(), ran.text());
        String said = Tools.complaints() + ran.text();
        boolean logsIn = Tools.client().containsKey("sasl.mechanism");
        if (logsIn) {
            // In our words, or in Apache Kafka's.
            Tools.containsOne(said, "login failed: ", "Authentication failed", "invalid_token");
        } else {
            Tools.contains(said, "post-handshake");
        }
        return said.trim();
    }

    // ---- tokens

    private static final int RECORDS_PER_SECOND = 20;

    /** Makes a token and puts it where the tools look for it. */
    private static void renew(JsonNode door) throws IOException, InterruptedException {
        List<String> words = new ArrayList<>();
        door.get("make_token").forEach(word -> words.add(word.asText()));
        Path file = Path.of(door.get("token_file").asText());
        Path next = Path.of(file + ".next");
        Process made = new ProcessBuilder(words).redirectOutput(next.toFile())
            .redirectError(ProcessBuilder.Redirect.DISCARD).start();
        Tools.check(made.waitFor() == 0, "no token was made");
        Files.writeString(next, Files.readString(next).trim());
        Files.move(next, file, StandardCopyOption.ATOMIC_MOVE);
    }

    /** Somebody else keeps a file with a token that is good, and a tool writes for three lifetimes of the first. */
    private static Object tokenRenewal() throws Exception {
        JsonNode door = new ObjectMapper().readTree(new File(System.getenv("DOOR")));
        int seconds = door.get("token_seconds").asInt();
        String records = "" + 3 * seconds * RECORDS_PER_SECOND;
        var renewed = new AtomicInteger();
        var failure = new AtomicReference<Throwable>();
        var keeper = Executors.newSingleThreadScheduledExecutor();
        renew(door);
        keeper.scheduleWithFixedDelay(() -> {
            try {
                renew(door);
                renewed.incrementAndGet();
            } catch (IOException | InterruptedException | AssertionError error) {
                failure.set(error);
            }
        }, 1, 1, TimeUnit.SECONDS);
        try {
            Tools.create();
            Tools.producerPerformance("--topic", Tools.topic, "--num-records", records, "--record-size", "100",
                "--throughput", "" + RECORDS_PER_SECOND, "--command-property", "acks=all", "enable.idempotence=true");
            Tools.contains(Tools.tool(Tools.OFFSETS, "--topic", Tools.topic), Tools.topic + ":0:" + records);
        } finally {
            keeper.shutdown();
            keeper.awaitTermination(Tools.SECONDS, TimeUnit.SECONDS);
        }
        Tools.check(failure.get() == null, "%s", failure.get());
        return Map.of("records", Integer.parseInt(records), "tokens", renewed.get(), "logs in again", true);
    }

    // ---- kafka-acls

    private static String acls(String... words) throws Exception {
        return Tools.tool(ACLS, words);
    }

    /** The rules that a list shows of a resource, by what the tool prints for it. */
    private static List<String> listed(String resource, String... words) throws Exception {
        String printed = acls(Tools.with(new String[] {"--list"}, words));
        List<String> lines = printed.lines().map(String::trim).toList();
        int at = 0;
        while (at < lines.size() && !lines.get(at).contains(resource)) {
            at++;
        }
        return lines.stream().skip(at + 1L).takeWhile(line -> line.startsWith("(principal=")).sorted().toList();
    }

    private static String rule(String user, String host, String operation, String permission) {
        return "(principal=User:%s, host=%s, operation=%s, permissionType=%s)".formatted(user, host, operation, permission);
    }

    private static void shows(String resource, List<String> expected, String... words) throws Exception {
        Tools.await(resource + " shows " + expected, () -> listed(resource, words).equals(expected));
    }

    private static Object acls() throws Exception {
        String topic = Tools.topic;
        String ann = topic + "-ann";
        String[] literal = {"--topic", topic};
        String[] prefixed = {"--topic", topic + "-", "--resource-pattern-type", "prefixed"};
        String[] group = {"--group", topic};
        acls(Tools.with(literal, "--add", "--allow-principal", "User:" + ann, "--operation", "Read", "--operation", "Write"));
        acls(Tools.with(prefixed, "--add", "--deny-principal", "User:*", "--deny-host", "192.0.2.7", "--operation", "All"));
        acls(Tools.with(group, "--add", "--allow-principal", "User:" + ann, "--operation", "Read"));
        String literally = "resourceType=TOPIC, name=" + topic + ", patternType=LITERAL";
        String byPrefix = "resourceType=TOPIC, name=" + topic + "-, patternType=PREFIXED";
        List<String> both = List.of(rule(ann, "*", "READ", "ALLOW"), rule(ann, "*", "WRITE", "ALLOW"));
        List<String> denied = List.of(rule("*", "192.0.2.7", "ALL", "DENY"));
        shows(literally, both, literal);
        shows(byPrefix, denied, prefixed);
        shows("resourceType=GROUP, name=" + topic, both.subList(0, 1), "--principal", "User:" + ann);
        // What counts for a topic of that name: the prefix does, the other topic's does not.
        String[] matching = {"--topic", topic + "-x", "--resource-pattern-type", "match"};
        shows(byPrefix, denied, matching);
        shows(literally, List.of(), matching);
        // What producers and consumers need, in one word each.
        acls("--add", "--allow-principal", "User:" + ann, "--producer", "--topic", topic + "-p", "--transactional-id", topic);
        shows("resourceType=TRANSACTIONAL_ID, name=" + topic,
            List.of(rule(ann, "*", "DESCRIBE", "ALLOW"), rule(ann, "*", "WRITE", "ALLOW")), "--transactional-id", topic);
        acls("--add", "--allow-principal", "User:" + ann, "--consumer", "--topic", topic + "-c", "--group", topic);
        shows("resourceType=TOPIC, name=" + topic + "-c",
            List.of(rule(ann, "*", "DESCRIBE", "ALLOW"), rule(ann, "*", "READ", "ALLOW")), "--topic", topic + "-c");
        // What could not mean anything is refused.
        Tools.Ran wrong = Tools.refused(ACLS, Tools.with(literal, "--add", "--allow-principal", "ann", "--operation", "Read"));
        Tools.check(wrong.code() == 1, "exit %d: %s", wrong.code(), wrong.text());
        acls(Tools.with(literal, "--remove", "--force", "--allow-principal", "User:" + ann, "--operation", "Write"));
        shows(literally, both.subList(0, 1), literal);
        for (String[] all : List.of(literal, prefixed, group, new String[] {"--transactional-id", topic},
                new String[] {"--topic", topic + "-p"}, new String[] {"--topic", topic + "-c"})) {
            acls(Tools.with(all, "--remove", "--force"));
        }
        shows(literally, List.of(), literal);
        shows("resourceType=GROUP, name=" + topic, List.of(), "--principal", "User:" + ann);
        return null;
    }

    // ---- kafka-configs of users

    /** Whether the user can log in by this password. */
    private static boolean logsIn(String user, String mechanism, String password) throws Exception {
        return logsIn(mechanism, "username=\"" + user + "\" password=\"" + password + "\"");
    }

    private static boolean logsIn(String mechanism, String options) throws Exception {
        Properties client = Tools.client();
        client.put("sasl.mechanism", mechanism);
        client.put("sasl.jaas.config",
            "org.apache.kafka.common.security.scram.ScramLoginModule required " + options + ";");
        try (Admin admin = Admin.create(client)) {
            admin.describeCluster().clusterId().get();
            return true;
        } catch (ExecutionException error) {
            Tools.check(error.getCause() instanceof AuthenticationException, "%s", error.getCause());
            return false;
        }
    }

    private static Object users() throws Exception {
        String user = Tools.topic;
        String[] entity = {"--entity-type", "users", "--entity-name", user};
        // Both at once are refused, as by Apache Kafka: a request may name a user once.
        for (String one : List.of("SCRAM-SHA-256=[iterations=8192,password=first]", "SCRAM-SHA-512=[password=second]")) {
            Tools.tool(Tools.CONFIGS, Tools.with(entity, "--alter", "--add-config", one));
        }
        String described = Tools.tool(Tools.CONFIGS, Tools.with(entity, "--describe"));
        Tools.contains(described, "SCRAM-SHA-256=iterations=8192");
        Tools.contains(described, "SCRAM-SHA-512=iterations=4096");
        Tools.check(logsIn(user, "SCRAM-SHA-256", "first"), "by the first password");
        Tools.check(logsIn(user, "SCRAM-SHA-512", "second"), "by the second password");
        Tools.check(!logsIn(user, "SCRAM-SHA-512", "first"), "by the other's password");
        Tools.tool(Tools.CONFIGS, Tools.with(entity, "--alter", "--add-config", "producer_byte_rate=4096,consumer_byte_rate=8192"));
        described = Tools.tool(Tools.CONFIGS, Tools.with(entity, "--describe"));
        Tools.contains(described, "producer_byte_rate=4096.0");
        Tools.contains(described, "consumer_byte_rate=8192.0");
        Tools.tool(Tools.CONFIGS, Tools.with(entity, "--alter", "--delete-config", "producer_byte_rate,consumer_byte_rate"));
        Tools.tool(Tools.CONFIGS, Tools.with(entity, "--alter", "--delete-config", "SCRAM-SHA-256"));
        Tools.check(!logsIn(user, "SCRAM-SHA-256", "first"), "after its credential was deleted");
        Tools.check(logsIn(user, "SCRAM-SHA-512", "second"), "by what was not deleted");
        Tools.Ran few = Tools.refused(Tools.CONFIGS,
            Tools.with(entity, "--alter", "--add-config", "SCRAM-SHA-256=[iterations=1000,password=x]"));
        Tools.check(few.code() == 1, "exit %d: %s", few.code(), few.text());
        Tools.tool(Tools.CONFIGS, Tools.with(entity, "--alter", "--delete-config", "SCRAM-SHA-512"));
        Tools.check(!logsIn(user, "SCRAM-SHA-512", "second"), "after all was deleted");
        return null;
    }

    // ---- kafka-delegation-tokens

    private static final Tools.Main TOKENS = org.apache.kafka.tools.DelegationTokenCommand::main;

    /** The last line that the tool prints: id, HMAC, owner, requester, and what else there is of a token. */
    private static String[] lastToken(String printed) {
        String line = printed.lines().filter(one -> one.contains("User:")).reduce("", (before, next) -> next);
        return line.trim().split("\\s+");
    }

    private static boolean logsInByToken(String id, String hmac, String more) throws Exception {
        return logsIn("SCRAM-SHA-256", "username=\"" + id + "\" password=\"" + hmac + "\"" + more);
    }

    private static Object tokens() throws Exception {
        String owner = Tools.topic;
        String[] forOwner = {"--owner-principal", "User:" + owner};
        String[] token = lastToken(Tools.tool(TOKENS, Tools.with(forOwner, "--create", "--max-life-time-period", "3600000",
            "--renewer-principal", "User:admin")));
        String id = token[0];
        String hmac = token[1];
        Tools.check(token[2].equals("User:" + owner), "made for %s", token[2]);
        Tools.check(logsInByToken(id, hmac, " tokenauth=\"true\""), "by the token");
        Tools.check(!logsInByToken(id, hmac, ""), "as if its id were a user");
        Tools.check(!logsInByToken(id, hmac.replaceFirst("^.", hmac.startsWith("A") ? "B" : "A"), " tokenauth=\"true\""),
            "by another HMAC");
        String[] told = lastToken(Tools.tool(TOKENS, Tools.with(forOwner, "--describe")));
        Tools.check(told[0].equals(id) && told[1].equals(hmac), "described as %s", List.of(told));
        Tools.tool(TOKENS, "--renew", "--renew-time-period", "60000", "--hmac", hmac);
        Tools.tool(TOKENS, "--expire", "--expiry-time-period", "-1", "--hmac", hmac);
        Tools.check(!logsInByToken(id, hmac, " tokenauth=\"true\""), "after it was ended");
        Tools.Ran gone = Tools.refused(TOKENS, "--renew", "--renew-time-period", "60000", "--hmac", hmac);
        Tools.check(gone.code() == 1, "exit %d: %s", gone.code(), gone.text());
        return null;
    }
}
