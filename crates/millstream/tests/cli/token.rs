//! `millstream token`, and logins by what it makes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{Server, folder, run};

const PASSWORD: &str = "correct horse battery";
const KEY: &str = "delegation.token.secret.key=0123456789abcdef0123456789abcdef";

/// A server where `alice` and `bob` can log in.
fn server(data: &str) -> Server {
    for user in ["alice", "bob", "carol"] {
        run(&format!("user add {user} --data-dir {data}"), None, PASSWORD.as_bytes()).ok();
    }
    let listeners = "listeners=SASL_PLAINTEXT://127.0.0.1:0";
    let mut server = Server::start(&format!("--data-dir {data} --set {listeners} --set {KEY}"));
    let told = server.kafka.split_once("://").map(|(_, address)| address.to_owned());
    server.kafka = told.expect("with the name of the listener");
    server
}

#[test]
fn a_token_is_made_used_renewed_and_ended() {
    let folder = folder();
    let server = server(&folder.path().join("data").display().to_string());
    let as_user = |user: &str, line: &str| {
        server.cli_with(&format!("{line} --login {user} --login-password-file -"), PASSWORD)
    };
    let none = "there are no such tokens; `millstream token create` makes one\n";
    assert_eq!(as_user("alice", "token list").ok(), none);

    let file = folder.path().join("alice.token");
    let create = format!("token create --renewer bob --lifetime 1h --hmac-file {}", file.display());
    let made = as_user("alice", &format!("{create} --json")).json();
    let id = made["token"].as_str().unwrap().to_owned();
    let at = |value: &serde_json::Value| value.as_i64().unwrap();
    assert_eq!(at(&made["ends"]) - at(&made["issued"]), 3_600_000);
    assert_eq!((&made["owner"], &made["renewers"][0]), (&"alice".into(), &"bob".into()));
    assert_eq!(made.get("hmac"), None, "it is in the file");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    as_user("alice", &create).fails(1, &["is there already: name another file"]);

    let by_token = |line: &str| {
        let line = format!("{line} --login {id} --login-by-token --login-password-file ");
        server.cli(&format!("{line}{}", file.display()))
    };
    by_token("topic create t").ok();
    by_token("token create").fails(1, &["DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", "not by a token"]);
    // Without saying so, it is a user of that name, whom there is not.
    let as_name =
        server.cli(&format!("topic list --login {id} --login-password-file {}", file.display()));
    as_name.fails(1, &["the name or the password is wrong"]);

    let listed = as_user("alice", "token list").ok();
    assert!(listed.contains(&id) && !listed.contains("HMAC"), "{listed}");
    let shown = as_user("alice", "token list --show-hmac --json").json();
    let hmac = fs::read_to_string(&file).unwrap();
    assert_eq!(shown[0]["hmac"].as_str(), Some(hmac.trim_end()));

    let renewed = as_user("bob", &format!("token renew {id} --for 10m --json")).json();
    let after = at(&renewed["expires"]) - at(&made["issued"]);
    assert!((600_000..3_600_000).contains(&after), "{after} ms");
    as_user("carol", "token expire nothing").fails(1, &["there is no token `nothing`"]);
    let soon = as_user("bob", &format!("token expire {id} --in 5m")).ok();
    assert!(soon.starts_with(&format!("token {id} expires at 2")), "{soon}");
    let ended = as_user("alice", &format!("token expire {id}")).ok();
    assert_eq!(ended, format!("token {id} has ended\n"));
    by_token("topic list").fails(1, &["the name or the password is wrong"]);
    assert_eq!(as_user("alice", "token list").ok(), none);
}

#[test]
fn where_there_are_no_tokens_it_is_said_what_to_do() {
    let server = Server::in_memory();
    server.cli("token list").fails(1, &["DELEGATION_TOKEN", "hint: "]);
}
