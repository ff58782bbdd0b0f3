//! Configs of a broker (resource type 4), but for logs and groups.
//!
//! Of Kafka's own, those that clients and tools read or that have a meaning here; then ours.

use super::super::Section;
use super::super::entry::Allowed::{
    AddressLimits, AtLeast, Between, BetweenOrDefault, Distinct, ListOf, OneOf, Secret, Users,
};
use super::super::entry::Effect::{AcceptedOnly, Later, Reported};
use super::super::entry::{Entry, boolean, int, list, long, password, short, string};
use super::words::{AUDIT_LEVELS, AUTHORIZERS, COMPRESSIONS, INT_MAX, INT_MAX_ARRAY, MECHANISMS};
use super::{groups, log, oauth, transport};

pub(crate) static SECTIONS: &[Section] = &[
    Section { title: "Topics", entries: TOPICS },
    Section { title: "Requests and connections", entries: REQUESTS },
    Section { title: "Listeners and TLS", entries: transport::TRANSPORT },
    Section { title: "Quotas", entries: QUOTAS },
    Section { title: "Log", entries: log::LOG },
    Section { title: "Log cleaner", entries: log::CLEANER },
    Section { title: "Producers and transactions", entries: PRODUCERS },
    Section { title: "Offsets", entries: groups::OFFSETS },
    Section { title: "Classic groups", entries: groups::CLASSIC },
    Section { title: "Consumer groups", entries: groups::CONSUMER },
    Section { title: "Share groups", entries: groups::SHARE },
    Section { title: "Streams groups", entries: groups::STREAMS },
    Section { title: "Replication and threads", entries: MACHINERY },
    Section { title: "Remote storage", entries: REMOTE },
    Section { title: "Security", entries: SECURITY },
    Section { title: "Logins by tokens of an issuer", entries: oauth::OAUTH },
    Section { title: "What this broker is", entries: IDENTITY },
    Section { title: "Millstream's own", entries: OWN },
];

static TOPICS: &[Entry] = &[
    int("num.partitions", "1")
        .allow(AtLeast(1))
        .read_only()
        .doc("How many partitions a topic gets when nobody says how many."),
    int("default.replication.factor", "1").allow(Between(1, 32_767)).read_only().doc(
        "The replication factor that a topic reports when nobody asks for one; durability \
         comes from the store below, whatever it is.",
    ),
    boolean("auto.create.topics.enable", "true")
        .read_only()
        .doc("Whether a topic is created when a client asks for its metadata and allows it."),
    boolean("delete.topic.enable", "true").read_only().doc("Whether topics can be deleted at all."),
    int("min.insync.replicas", "1").allow(AtLeast(1)).effect(AcceptedOnly).doc(
        "The default of the topic config of that name. Without effect: durability comes \
         from the store below, not from replicas.",
    ),
    string("compression.type", "producer")
        .allow(OneOf(COMPRESSIONS))
        .doc("The default of the topic config of that name."),
    int("compression.gzip.level", "-1")
        .allow(BetweenOrDefault(1, 9))
        .doc("The default of the topic config of that name."),
    int("compression.lz4.level", "9").allow(Between(1, 17)).effect(AcceptedOnly).doc(
        "The default of the topic config of that name. Without effect: the codec in use has \
         one level.",
    ),
    int("compression.zstd.level", "3")
        .allow(Between(-131_072, 22))
        .doc("The default of the topic config of that name."),
];

static REQUESTS: &[Entry] = &[
    int("message.max.bytes", "1048588")
        .allow(AtLeast(0))
        .doc("The default of the topic config `max.message.bytes`, in bytes."),
    int("max.decompressed.message.bytes", INT_MAX_ARRAY)
        .allow(Between(1, 2_147_483_639))
        .doc("The default of the topic config of that name, in bytes."),
    int("socket.request.max.bytes", "104857600")
        .allow(AtLeast(1))
        .read_only()
        .doc("The largest request that is read, in bytes; a larger one closes the connection."),
    int("fetch.max.bytes", "57671680").allow(AtLeast(1024)).read_only().doc(
        "The most bytes that one Fetch answers with, whatever the client allows; the first \
         batch is sent even if it is larger.",
    ),
    int("max.incremental.fetch.session.cache.slots", "1000").allow(AtLeast(0)).read_only().doc(
        "How many incremental fetch sessions are kept; clients without one send all they \
         ask for each time.",
    ),
    int("max.request.partition.size.limit", "2000")
        .allow(AtLeast(1))
        .read_only()
        .doc("The most partitions in one answer to DescribeTopicPartitions; the next one goes on."),
    long("connections.max.idle.ms", "600000").read_only().doc(
        "A connection without a request for so many milliseconds is closed, one that has begun a \
         request and not ended it by then, and one that takes nothing of its answer for so long; a \
         negative number closes none.",
    ),
    int("max.connections", INT_MAX).allow(AtLeast(0)).doc(
        "The most connections at a time; others wait until one of them is closed. Those inside \
         the process don't count.",
    ),
    int("max.connections.per.ip", INT_MAX)
        .allow(AtLeast(0))
        .doc("The most connections at a time from one address; others are closed at once."),
    string("max.connections.per.ip.overrides", "").allow(AddressLimits).doc(
        "Other limits for single addresses, as `address:number` with commas between them; names of hosts \
         are not looked up.",
    ),
    int("max.connection.creation.rate", INT_MAX)
        .allow(AtLeast(0))
        .doc("The most connections accepted in a second; others wait."),
    int("queued.max.requests", "500").allow(AtLeast(1)).read_only().effect(AcceptedOnly).doc(
        "How many requests may wait for a thread. Without effect: there is no queue; what \
         bounds requests is their memory, `queued.max.request.bytes`.",
    ),
    long("queued.max.request.bytes", "67108864").read_only().doc(
        "How much memory requests of more than 8 KiB may take, of all connections together, until \
         they are answered, in bytes; others are left unread meanwhile. One that needs more than \
         half counts for half. A negative number sets no limit.",
    ),
    int("socket.send.buffer.bytes", "102400").read_only().effect(AcceptedOnly).doc(
        "The kernel's send buffer of a connection, in bytes. Without effect: the kernel \
         tunes it.",
    ),
    int("socket.receive.buffer.bytes", "102400").read_only().effect(AcceptedOnly).doc(
        "The kernel's receive buffer of a connection, in bytes. Without effect: the kernel \
         tunes it.",
    ),
    int("socket.listen.backlog.size", "50").allow(AtLeast(1)).read_only().effect(AcceptedOnly).doc(
        "How many connections may wait to be accepted. Without effect: the kernel's own \
         default is used.",
    ),
    int("request.timeout.ms", "30000").read_only().effect(AcceptedOnly).doc(
        "How long a broker waits for another, in milliseconds. Without effect: brokers do \
         not send each other requests.",
    ),
    int("telemetry.max.bytes", "1048576")
        .allow(AtLeast(1))
        .read_only()
        .doc("The most bytes of metrics that a client may push at a time, as it sends them."),
];

static QUOTAS: &[Entry] = &[
    int("quota.window.num", "11").allow(AtLeast(1)).read_only().doc(
        "How many windows quotas are averaged over. Who has used nothing of late may use at once what his \
         quota allows in all of them but one: ten seconds' worth, unless this or the next is set.",
    ),
    int("quota.window.size.seconds", "1")
        .allow(AtLeast(1))
        .read_only()
        .doc("How long each of these windows is, in seconds."),
    int("controller.quota.window.num", "11").allow(AtLeast(1)).read_only().doc(
        "How many windows' worth of partitions who has made and deleted none of late may make and delete at \
         once (KIP-599).",
    ),
    int("controller.quota.window.size.seconds", "1")
        .allow(AtLeast(1))
        .read_only()
        .doc("How long each of these windows is, in seconds."),
];

static PRODUCERS: &[Entry] = &[
    int("producer.id.expiration.ms", "86400000").allow(AtLeast(1)).doc(
        "A producer that has been idle for so many milliseconds is forgotten; its next \
         retry can no longer be recognised.",
    ),
    int("transaction.max.timeout.ms", "900000")
        .allow(AtLeast(1))
        .read_only()
        .doc("The longest transaction timeout that a producer may ask for, in milliseconds."),
    int("transactional.id.expiration.ms", "604800000")
        .allow(AtLeast(1))
        .read_only()
        .doc("A transactional id that has been idle for so many milliseconds is forgotten."),
    int("transaction.abort.timed.out.transaction.cleanup.interval.ms", "10000")
        .allow(AtLeast(1))
        .read_only()
        .effect(AcceptedOnly)
        .doc(
            "How often transactions are looked at for their timeout, in milliseconds. Without \
             effect: each is aborted when its time is up.",
        ),
    int("transaction.remove.expired.transaction.cleanup.interval.ms", "3600000")
        .allow(AtLeast(1))
        .read_only()
        .doc("How often transactional ids are looked at for expiry, in milliseconds."),
    boolean("transaction.partition.verification.enable", "true").effect(AcceptedOnly).doc(
        "Whether a transactional batch is refused unless its partition belongs to an open \
         transaction. Without effect: it always is.",
    ),
    boolean("transaction.two.phase.commit.enable", "false")
        .read_only()
        .effect(Later)
        .doc("Whether producers may prepare a transaction and leave its end to somebody else."),
    int("transaction.state.log.num.partitions", "50")
        .allow(AtLeast(1))
        .read_only()
        .doc("How many partitions the internal topic of transactions gets when it is created."),
    short("transaction.state.log.replication.factor", "3")
        .allow(AtLeast(1))
        .read_only()
        .effect(AcceptedOnly)
        .doc(
            "The replication factor of the internal topic of transactions. Without effect: \
             durability comes from the store below.",
        ),
    int("transaction.state.log.min.isr", "2")
        .allow(AtLeast(1))
        .read_only()
        .effect(AcceptedOnly)
        .doc(
            "`min.insync.replicas` of the internal topic of transactions. Without effect: \
             durability comes from the store below.",
        ),
    int("transaction.state.log.segment.bytes", "104857600")
        .allow(AtLeast(1))
        .read_only()
        .effect(AcceptedOnly)
        .doc(
            "`segment.bytes` of the internal topic of transactions. Without effect: compaction \
             keeps what has to be loaded short.",
        ),
    int("transaction.state.log.load.buffer.size", "5242880")
        .allow(AtLeast(1))
        .read_only()
        .effect(AcceptedOnly)
        .doc(
            "How many bytes are read at a time while transactions are loaded. Without effect: \
             it is 1 MiB.",
        ),
];

static MACHINERY: &[Entry] = &[
    boolean("unclean.leader.election.enable", "false").effect(AcceptedOnly).doc(
        "The default of the topic config of that name. Without effect: there are no \
         replicas that could lag.",
    ),
    boolean("auto.leader.rebalance.enable", "true").read_only().effect(AcceptedOnly).doc(
        "Whether leadership returns to preferred replicas. Without effect: a partition has \
         no preferred replica.",
    ),
    long("replica.lag.time.max.ms", "30000").read_only().effect(AcceptedOnly).doc(
        "How long a replica may lag, in milliseconds. Without effect: brokers do not copy \
         records from each other.",
    ),
    int("replica.fetch.max.bytes", "1048576")
        .allow(AtLeast(0))
        .read_only()
        .effect(AcceptedOnly)
        .doc(
            "How many bytes of a partition a replica fetches at a time. Without effect: brokers \
             do not copy records from each other.",
        ),
    int("num.replica.fetchers", "1").allow(AtLeast(1)).effect(AcceptedOnly).doc(
        "How many threads fetch from each leader. Without effect: brokers do not copy \
         records from each other.",
    ),
    long("leader.replication.throttled.rate", "9223372036854775807")
        .allow(AtLeast(0))
        .effect(AcceptedOnly)
        .doc(
            "How many bytes a second throttled replicas are sent. Without effect: brokers do \
             not copy records from each other.",
        ),
    long("follower.replication.throttled.rate", "9223372036854775807")
        .allow(AtLeast(0))
        .effect(AcceptedOnly)
        .doc(
            "How many bytes a second throttled replicas fetch. Without effect: brokers do not \
             copy records from each other.",
        ),
    long("replica.alter.log.dirs.io.max.bytes.per.second", "9223372036854775807")
        .allow(AtLeast(0))
        .effect(AcceptedOnly)
        .doc(
            "How many bytes a second move between log directories. Without effect: there is one \
             directory.",
        ),
    int("num.network.threads", "3").allow(AtLeast(1)).effect(AcceptedOnly).doc(
        "How many threads serve sockets. Without effect: there is one worker for each core, \
         for everything.",
    ),
    int("num.io.threads", "8").allow(AtLeast(1)).effect(AcceptedOnly).doc(
        "How many threads handle requests. Without effect: there is one worker for each \
         core, for everything.",
    ),
    int("background.threads", "10").allow(AtLeast(1)).effect(AcceptedOnly).doc(
        "How many threads do background work. Without effect: there is one worker for each \
         core, for everything.",
    ),
    int("num.recovery.threads.per.data.dir", "2").allow(AtLeast(1)).effect(AcceptedOnly).doc(
        "How many threads recover logs. Without effect: recovery reads one journal, in \
         order.",
    ),
    int("group.coordinator.cached.buffer.max.bytes", "1048588")
        .allow(AtLeast(524_288))
        .effect(AcceptedOnly)
        .doc(
            "How large a buffer of the group coordinator may be to be kept, in bytes. Without effect: none \
             is kept.",
        ),
    int("share.coordinator.cached.buffer.max.bytes", "1048588")
        .allow(AtLeast(524_288))
        .effect(AcceptedOnly)
        .doc(
            "How large a buffer of the share coordinator may be to be kept, in bytes. Without effect: none \
             is kept.",
        ),
    list("metric.reporters", "").effect(AcceptedOnly).doc(
        "Java classes that report metrics. Without effect: there are no Java classes; see `/metrics`.",
    ),
];

static REMOTE: &[Entry] = &[
    boolean("remote.log.storage.system.enable", "false").read_only().effect(Later).doc(
        "Whether topics may set `remote.storage.enable`. Without effect yet: they always \
         may, and it does nothing.",
    ),
    boolean("follower.fetch.last.tiered.offset.enable", "false").effect(AcceptedOnly).doc(
        "Whether a new replica begins where remote storage ends. Without effect: brokers do not copy \
         records from each other.",
    ),
    int("remote.fetch.max.wait.ms", "500").allow(AtLeast(1)).effect(Later).doc(
        "How long a Fetch waits for remote storage, in milliseconds. Without effect yet: there is none.",
    ),
    long("remote.list.offsets.request.timeout.ms", "30000").allow(AtLeast(1)).effect(Later).doc(
        "How long ListOffsets waits for remote storage, in milliseconds. Without effect yet: there is none.",
    ),
    long("remote.log.index.file.cache.total.size.bytes", "1073741824")
        .allow(AtLeast(1))
        .effect(Later)
        .doc(
            "How much disk indexes of remote segments may take, in bytes. Without effect yet: there are \
             none.",
        ),
    int("remote.log.manager.copier.thread.pool.size", "10").allow(AtLeast(1)).effect(Later).doc(
        "How many threads copy segments to remote storage. Without effect yet: there is none.",
    ),
    int("remote.log.manager.expiration.thread.pool.size", "10")
        .allow(AtLeast(1))
        .effect(Later)
        .doc("How many threads delete remote segments. Without effect yet: there are none."),
    int("remote.log.manager.follower.thread.pool.size", "2").allow(AtLeast(1)).effect(Later).doc(
        "How many threads follow what other brokers copied. Without effect yet: there is no remote storage.",
    ),
    int("remote.log.reader.threads", "10").allow(AtLeast(1)).effect(Later).doc(
        "How many threads read remote segments. Without effect yet: there are none.",
    ),
    long("remote.log.manager.copy.max.bytes.per.second", "9223372036854775807")
        .allow(AtLeast(1))
        .effect(Later)
        .doc(
            "How many bytes a second are copied to remote storage. Without effect yet: there is none.",
        ),
    long("remote.log.manager.fetch.max.bytes.per.second", "9223372036854775807")
        .allow(AtLeast(1))
        .effect(Later)
        .doc(
            "How many bytes a second are read from remote storage. Without effect yet: there is none.",
        ),
];

/// What is offered unless somebody says otherwise: those that don't send the password.
const MECHANISMS_DEFAULT: &str = "SCRAM-SHA-256,SCRAM-SHA-512";

/// The shortest `delegation.token.secret.key`, in bytes: whoever has a token, which is an HMAC by it, can try keys
/// where nobody sees it. Kafka takes any.
const TOKEN_KEY_BYTES_MIN: usize = 32;

static SECURITY: &[Entry] = &[
    list("sasl.enabled.mechanisms", MECHANISMS_DEFAULT).allow(ListOf(MECHANISMS)).of_listeners().read_only().doc(
        "The SASL mechanisms by which clients may log in on listeners with SASL. PLAIN sends the password \
         as it is, and OAUTHBEARER a token: add them only where all such listeners have TLS.",
    ),
    boolean("millstream.sasl.plain.connection.strings", "false").read_only().doc(
        "Whether a client may log in by PLAIN as `$ConnectionString` with a connection string for its password, as \
         those of Azure Event Hubs do: the user is its `SharedAccessKeyName`, the password its `SharedAccessKey`.",
    ),
    int("connection.failed.authentication.delay.ms", "100").allow(Between(0, 10_000)).read_only().doc(
        "How long after its last request a client is answered that has failed to log in, in milliseconds, \
         so that passwords can't be tried quickly, nor be told from names by the time that it takes.",
    ),
    long("sasl.kerberos.min.time.before.relogin", "60000").effect(Later).doc(
        "How long a Kerberos login rests before it is renewed, in milliseconds. Without effect yet: \
         there is no Kerberos.",
    ),
    long("connections.max.reauth.ms", "0").allow(AtLeast(0)).read_only().doc(
        "How long a SASL session lasts before the client must log in again, in milliseconds; one that has \
         not is closed at its next request. 0 sets no limit.",
    ),
    password("delegation.token.secret.key").allow(Secret(TOKEN_KEY_BYTES_MIN)).read_only().doc(
        "The secret that delegation tokens are made from: there are none without it, and with another one all that \
         there were are void. Whoever knows it can log in by any token, and whoever has a token can try what it is, \
         so it has to be long and random.",
    ),
    long("delegation.token.max.lifetime.ms", "604800000").allow(AtLeast(1)).read_only().doc(
        "How long a delegation token lasts at most, however often it is renewed, in milliseconds.",
    ),
    long("delegation.token.expiry.time.ms", "86400000").allow(AtLeast(1)).read_only().doc(
        "How long a delegation token lasts from when it is made or renewed, in milliseconds.",
    ),
    long("delegation.token.expiry.check.interval.ms", "3600000")
        .allow(AtLeast(1))
        .read_only()
        .effect(AcceptedOnly)
        .doc(
            "How often expired delegation tokens are removed, in milliseconds. Without effect: they count for \
             nothing at once, and go when the next one is made.",
        ),
    string("authorizer.class.name", "").allow(OneOf(AUTHORIZERS)).read_only().doc(
        "Whether requests need a right: empty for no, `standard`, or the name of Kafka's own \
         authorizer, for yes. Rights are given by access rules (docs/security.md); `super.users` has to \
         be set with it.",
    ),
    string("super.users", "").allow(Users).read_only().doc(
        "Who may do everything, whatever the rules say: `User:name`, several with semicolons between \
         them.",
    ),
    boolean("allow.everyone.if.no.acl.found", "false").read_only().doc(
        "Whether everybody may do everything to a resource that no rule speaks of.",
    ),
];

static IDENTITY: &[Entry] = &[
    int("node.id", "")
        .unset()
        .allow(AtLeast(0))
        .read_only()
        .effect(Reported("the data directory"))
        .doc("The number of this broker in the cluster."),
    int("broker.id", "-1")
        .read_only()
        .effect(Reported("the data directory"))
        .doc("The number of this broker in the cluster: another name of `node.id`."),
    list("process.roles", "")
        .unset()
        .read_only()
        .effect(Reported("the program"))
        .doc("What this process does; always both."),
    string("log.dir", "./millstream-data")
        .read_only()
        .effect(Reported("`--data-dir`"))
        .doc("The data directory."),
    list("log.dirs", "")
        .unset()
        .read_only()
        .effect(Reported("`--data-dir`"))
        .doc("The data directory; there is always one."),
    list("cordoned.log.dirs", "")
        .allow(Distinct)
        .effect(AcceptedOnly)
        .doc("Directories that get no new partitions. Without effect: there is always one."),
    string("broker.rack", "")
        .unset()
        .read_only()
        .effect(Later)
        .doc("Where this broker stands, for clients that prefer a broker near them."),
];

static OWN: &[Entry] = &[
    long("millstream.journal.bytes", "1073741824").allow(AtLeast(134_217_728)).read_only().doc(
        "How much disk the journal may take, in bytes, at least 128 MiB: what has not been \
         laid out into segments yet. More absorbs longer bursts and makes recovery longer.",
    ),
    long("millstream.reserve.bytes", "201326592").allow(AtLeast(0)).read_only().doc(
        "How much of the disk is set aside for when it is full, in bytes: then records are \
         refused, and deletions, commits and changes of configuration go on with this. Enough \
         for one file of the journal and 64 MiB. `0`: nothing.",
    ),
    long("millstream.tail.bytes", "67108864").allow(AtLeast(1_048_576)).read_only().doc(
        "How much memory recent batches may take, in bytes, at least 1 MiB. More lets \
         consumers lag further before they cost reads.",
    ),
    int("millstream.connection.request.bytes", "2097152").allow(AtLeast(0)).read_only().doc(
        "With so many bytes of Produce requests begun and not answered, a connection begins no other \
         one: more lets one client write faster, and others wait longer. One request is always \
         allowed.",
    ),
    long("millstream.response.bytes", "67108864").allow(AtLeast(1_048_576)).read_only().doc(
        "How much memory answers may take while they are made and sent, in bytes, at least 1 MiB. \
         An answer to Fetch takes a quarter of what is left at most. When it is used up, each Fetch \
         brings one batch and clients that have stopped reading are left after 10 s; at half as much \
         again, new answers wait.",
    ),
    string("millstream.audit.level", "auto").allow(OneOf(AUDIT_LEVELS)).read_only().doc(
        "How much is noted in `__millstream_audit`: `none`; `denied`: failed logins, missing rights, refused \
         connections; `changes`: also changes; `all`: also logins and connections that succeed. `auto` is \
         `changes` where `authorizer.class.name` is set, else `none`.",
    ),
    long("millstream.telemetry.bytes", "16777216").allow(AtLeast(0)).read_only().doc(
        "How much memory metrics of clients may take, in bytes; an eighth of it those of one client. What \
         does not fit is not shown. `0`: none are shown.",
    ),
    long("millstream.fetch.session.bytes", "33554432").allow(AtLeast(0)).read_only().doc(
        "How much memory incremental fetch sessions may take, in bytes; clients without one send \
         all they ask for each time.",
    ),
    int("millstream.group.bytes", "67108864").allow(AtLeast(0)).read_only().doc(
        "How much memory the members of one group may take by what they say of themselves, and how \
         much they may be assigned, in bytes; above, newcomers are told that the group is full.",
    ),
    int("millstream.groups.max", "100000").allow(AtLeast(0)).read_only().doc(
        "The most groups, spread evenly over the partitions of `__consumer_offsets`; where there are \
         as many, new ones are told to try again.",
    ),
    int("millstream.partitions.max", "100000").allow(AtLeast(1)).doc(
        "The most partitions of all topics together, internal ones among them; whoever asks for more is \
         refused, and topics are not created by asking for their metadata any more.",
    ),
    string("millstream.durability", "flush").allow(OneOf(&["flush", "os"])).read_only().doc(
        "What an acknowledgement waits for: `flush`, stable storage; `os`, the operating \
         system only, so that a power cut loses acknowledged records. The second is for \
         comparisons.",
    ),
    string("record.validation", "crc").allow(OneOf(&["crc", "full"])).doc(
        "How far batches are checked when they arrive: `crc`, checksum, header, and every \
         record of uncompressed batches; `full` decompresses the others too, as Apache Kafka \
         does. With `crc`, what a faulty producer compressed is stored, and its consumers fail.",
    ),
];
