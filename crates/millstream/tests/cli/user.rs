//! `millstream user`, in a cluster and in a data directory.

use std::fs;
use std::path::Path;

use crate::harness::{Server, folder, run};

const PASSWORD: &str = "correct horse battery";

#[test]
fn users_of_a_running_server_are_added_listed_and_deleted() {
    let server = Server::in_memory();
    assert_eq!(
        server.cli("user list").ok(),
        "there are no users; add one with `millstream user add NAME`\n"
    );
    let added = server.cli_with("user add alice", format!("{PASSWORD}\n")).ok();
    assert_eq!(added, "alice can log in by SCRAM-SHA-256 and SCRAM-SHA-512\n");
    let line = "user add bob --mechanism scram-sha-512 --iterations 8192 --json";
    let added = server.cli_with(line, PASSWORD).json();
    assert_eq!(added["mechanisms"], serde_json::json!(["SCRAM-SHA-512"]));
    let listed = server.cli("user list --json").json();
    let expected = serde_json::json!([
        { "user": "alice", "credentials": [
            { "mechanism": "SCRAM-SHA-256", "iterations": 4096 },
            { "mechanism": "SCRAM-SHA-512", "iterations": 4096 },
        ] },
        { "user": "bob", "credentials": [{ "mechanism": "SCRAM-SHA-512", "iterations": 8192 }] },
    ]);
    assert_eq!(listed, expected);
    let table = server.cli("user list").ok();
    assert!(table.contains("bob    SCRAM-SHA-512"), "{table}");
    let line = "user delete alice --mechanism SCRAM-SHA-256";
    assert_eq!(server.cli(line).ok(), "deleted user alice\n");
    server.cli(line).fails(1, &["there is no such user, or not by this mechanism"]);
    assert_eq!(server.cli("user delete alice").ok(), "deleted user alice\n");
    assert_eq!(server.cli("user delete alice --if-exists").ok(), "there is no user alice\n");
    server.cli("user delete alice").fails(1, &["millstream user list"]);
    let long = "x".repeat(300);
    let refused = server.cli_with(&format!("user add {long}"), PASSWORD);
    refused.fails(1, &["at most 255 bytes", "UNACCEPTABLE_CREDENTIAL"]);
    server.cli_with("user add carol", "\n").fails(1, &["its first line is empty"]);
    server.cli("user add carol --password-file nowhere.txt").fails(1, &["nowhere.txt"]);
}

#[test]
fn the_first_user_goes_into_the_data_directory() {
    let folder = folder();
    let data = folder.path().join("data");
    let there = |line: &str| format!("{line} --data-dir {}", data.display());
    let file = folder.path().join("password.txt");
    fs::write(&file, format!("{PASSWORD}\nand what else is in the file\n")).unwrap();
    let line = there(&format!("user add admin --password-file {}", file.display()));
    let added = run(&line, None, b"").ok();
    assert_eq!(added, "admin can log in by SCRAM-SHA-256 and SCRAM-SHA-512\n");
    run(&there("user add second"), None, PASSWORD.as_bytes()).ok();
    assert_eq!(run(&there("user delete second"), None, b"").ok(), "deleted user second\n");
    run(&there("user delete second"), None, b"").fails(1, &["there is no such user"]);
    let server = Server::in_directory(&data);
    let listed = server.cli("user list --json").json();
    assert_eq!(listed[0]["user"], "admin");
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    let locked = run(&there("user list"), None, b"");
    locked.fails(1, &["has to be stopped, or asked instead"]);
    assert_eq!(server.terminate().0, Some(0));
    let listed = run(&there("user list --json"), None, b"").json();
    assert_eq!(listed[0]["credentials"].as_array().map(Vec::len), Some(2));
    assert!(!holds(&data.join("meta"), PASSWORD.as_bytes()), "a password in clear");
}

#[test]
fn commands_log_in() {
    let folder = folder();
    let data = folder.path().join("data");
    let file = folder.path().join("password.txt");
    fs::write(&file, PASSWORD).unwrap();
    let (data, file) = (data.display(), file.display());
    run(&format!("user add admin --password-file {file} --data-dir {data}"), None, b"").ok();
    let mechanisms = "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512";
    let listeners = "listeners=SASL_PLAINTEXT://127.0.0.1:0";
    let options = format!("--data-dir {data} --set {listeners} --set {mechanisms}");
    let mut server = Server::start(&options);
    let told = server.kafka.split_once("://").map(|(_, address)| address.to_owned());
    server.kafka = told.expect("with the name of the listener");
    let admin = format!("--login admin --login-password-file {file}");
    let plain = format!("{admin} --login-mechanism plain");
    let line = format!("user add alice --password-file - {plain}");
    server.cli_with(&line, "another\n").ok();
    let scram = format!("{admin} --login-mechanism SCRAM-SHA-512");
    let listed = server.cli(&format!("user list --json {scram}")).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(2));
    let alice = "--login alice --login-mechanism PLAIN --login-password-file -";
    server.cli_with(&format!("topic list {alice}"), "another\n").ok();
    let wrong = server.cli_with(&format!("topic list {alice}"), "wrong\n");
    wrong.fails(1, &["login of `alice` by PLAIN", "the name or the password is wrong"]);
    let other = server.cli(&format!("topic list {admin}"));
    other.fails(1, &["the broker offers PLAIN, SCRAM-SHA-512", "UNSUPPORTED_SASL_MECHANISM"]);
    server.cli("topic list").fails(1, &["--login"]);
    server.cli("topic list --login alice").fails(1, &["use --login-password-file"]);
    let (code, said) = server.terminate();
    assert_eq!(code, Some(0));
    assert!(!said.contains(PASSWORD) && !said.contains("another"), "{said}");
}

/// Whether a file below `path` holds `needle`.
fn holds(path: &Path, needle: &[u8]) -> bool {
    if path.is_dir() {
        return fs::read_dir(path).unwrap().any(|entry| holds(&entry.unwrap().path(), needle));
    }
    fs::read(path).unwrap().windows(needle.len()).any(|window| window == needle)
}
