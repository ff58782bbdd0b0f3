//! `quota set|list|remove`.

use serde_json::json;

use crate::harness::Server;

#[test]
fn quotas_for_people_and_programs() {
    let server = Server::in_memory();
    let none = "there are no such quotas; `millstream quota set` makes one\n";
    let ann = "WHOM      WHAT       AT MOST\n\
               user ann  bytes out  20 MiB/s\n\
               user ann  bytes in   1.5 MB/s\n";
    let both = "WHOM                             WHAT      AT MOST\n\
                user ann, client id (default)    requests  50 %\n";
    server.check(&[
        ("quota list", none),
        ("quota set --user ann --bytes-in 1.5MB/s --bytes-out '20 MiB/s'", ann),
        (
            "quota set --ip 2001:DB8::1 --connections 10/s",
            "WHOM            WHAT         AT MOST\nip 2001:db8::1  connections  10/s\n",
        ),
        ("quota list --user ann", ann),
        ("quota list --user bob", none),
    ]);
    let set = server.cli("quota set --user ann --client-id-default --requests 50%").ok();
    assert_eq!(
        set.split_whitespace().collect::<Vec<_>>(),
        both.split_whitespace().collect::<Vec<_>>()
    );
    let listed = json!([
        { "entity": { "ip": "2001:db8::1" }, "limits": { "connection_creation_rate": 10.0 } },
        {
            "entity": { "user": "ann" },
            "limits": { "producer_byte_rate": 1_500_000.0, "consumer_byte_rate": 20_971_520.0 },
        },
        { "entity": { "user": "ann", "client-id": null }, "limits": { "request_percentage": 50.0 } },
    ]);
    assert_eq!(server.cli("quota list --json").json(), listed);
    let one = server.cli("quota remove --user ann --bytes-in --json").json();
    let removed =
        json!([{ "entity": { "user": "ann" }, "limits": { "producer_byte_rate": 1_500_000.0 } }]);
    assert_eq!(one, removed);
    server.cli("quota remove --user ann --bytes-in").fails(1, &["user ann has no such limit"]);
    assert_eq!(server.cli("quota remove --user ann --bytes-in --if-exists").ok(), none);
    // All of this entity, and of no other.
    let rest = "removed:\nWHOM      WHAT       AT MOST\nuser ann  bytes out  20 MiB/s\n";
    assert_eq!(server.cli("quota remove --user ann").ok(), rest);
    let left = server.cli("quota list --user ann --json").json();
    assert_eq!(left.as_array().map(Vec::len), Some(1));
}

#[test]
fn what_can_not_be_limited_is_explained() {
    let server = Server::in_memory();
    for (line, pieces) in [
        ("quota set --user ann --connections 1", &["--connections is of addresses", "--ip"][..]),
        ("quota set --ip ::1 --bytes-in 1MB", &["--bytes-in is of a user or a client id"]),
        ("quota set --user ann --bytes-in 99999999TB", &["must be a whole number of at most"]),
        ("quota set --ip ::1 --connections 0.5", &["must be a whole number"]),
        ("quota remove --client-id c", &["client id c has no such limit", "quota list"]),
    ] {
        server.cli(line).fails(1, pieces);
    }
}

#[test]
fn a_producer_is_held_to_its_quota() {
    let server = Server::start("--in-memory --set quota.window.num=2");
    server.cli("topic create t").ok();
    server.cli("quota set --client-id millstream-cli --bytes-in 1KB/s").ok();
    let lines = "a line of forty bytes, more or less ...\n".repeat(200);
    server.cli_with("produce t", lines).ok();
    assert!(server.metric("millstream_kafka_throttled_answers_total", "") > 0.0);
}
