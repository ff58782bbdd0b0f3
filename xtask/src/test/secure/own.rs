//! What our own program makes for a server where one has to log in: certificates, tokens, users, and rights.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

use super::super::clients::Places;
use super::super::process;

/// Who may do everything.
pub(super) const ADMIN: &str = "admin";
/// Who the clients are.
pub(super) const USER: &str = "suite";

/// What the clients need for what they do, to what is called after their run, and nothing else.
const RIGHTS: &[(&str, &[&str])] = &[
    ("topic", TOPIC_RIGHTS),
    ("group", &["read", "describe", "delete"]),
    ("transactional-id", &["write", "describe"]),
];
const TOPIC_RIGHTS: &[&str] =
    &["read", "write", "create", "delete", "alter", "alter-configs", "describe-configs"];

/// The group of consumers that are told what to read: librdkafka asks for its coordinator all the same.
const GROUP_OF_READERS: &str = "none";

/// The header of a token that nobody has signed: `{"alg":"none"}`.
const UNSIGNED: &str = "eyJhbGciOiJub25lIn0";

/// For how long a token is good that is to expire at once; the least that there is.
const MOMENT: Duration = Duration::from_secs(1);

/// The password of a user of these tests.
pub(super) fn password(user: &str) -> String {
    format!("the password of {user}")
}

/// Our own program, and the folder where it works.
pub(super) struct Own {
    pub(super) program: PathBuf,
    pub(super) folder: PathBuf,
}

impl Own {
    pub(super) fn new(places: &Places, folder: &Path) -> Self {
        let program = places.root.join("target/release/millstream");
        Self { program, folder: folder.to_owned() }
    }

    pub(super) fn certs(&self) -> PathBuf {
        self.folder.join("certs")
    }

    fn run(&self, words: &str, more: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new(&self.program);
        command.args(words.split(' ')).args(more).current_dir(&self.folder);
        process::run(&format!("millstream {words}"), command, &self.folder.join("setup.log"))
    }

    /// An authority with a certificate for the server and one for the clients; and another authority.
    pub(super) fn certificates(&self) -> anyhow::Result<()> {
        self.run("cert server --dir certs", &[])?;
        self.run("cert client --dir certs", &[USER])?;
        self.run("cert client --dir strangers", &[USER])
    }

    /// The words that make a token which is good for so long.
    pub(super) fn token_words(&self, seconds: u64) -> Vec<String> {
        let certs = self.certs().display().to_string();
        let words = ["cert", "token", USER, "--dir", &certs, "--seconds", &seconds.to_string()]
            .map(str::to_owned);
        [self.program.display().to_string()].into_iter().chain(words).collect()
    }

    fn token(&self, user: &str, dir: &str, more: &[&str]) -> anyhow::Result<String> {
        let mut make = Command::new(&self.program);
        make.args(["cert", "token", user, "--dir", dir]).args(more).current_dir(&self.folder);
        let made = make.output().context("millstream cert token")?;
        anyhow::ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Ok(String::from_utf8(made.stdout)?.trim().to_owned())
    }

    /// Tokens of an issuer that the server trusts, and of another one.
    pub(super) fn tokens(&self) -> anyhow::Result<()> {
        for dir in ["certs", "strangers"] {
            let token = self.token(USER, dir, &["--seconds", "86400"])?;
            fs::write(self.folder.join(dir).join("token"), token)?;
        }
        Ok(())
    }

    /// Tokens by which nobody gets in, by what is wrong with them.
    pub(super) fn bad_tokens(&self) -> anyhow::Result<Value> {
        let expired = self.token(USER, "certs", &["--seconds", &MOMENT.as_secs().to_string()])?;
        let begun = Instant::now();
        let good = self.token(USER, "certs", &[])?;
        let strangers = self.token(USER, "strangers", &[])?;
        let admins = self.token(ADMIN, "strangers", &[])?;
        let [head, claims, signature] = parts(&good)?;
        let ([_, _, other_signature], [_, other_claims, _]) = (parts(&strangers)?, parts(&admins)?);
        let tokens = json!({
            "expired": expired,
            "of another audience": self.token(USER, "certs", &["--audience", "others"])?,
            "of another issuer": self.token(USER, "certs", &["--issuer", "https://others.invalid"])?,
            "a stranger's": strangers,
            "with another's signature": format!("{head}.{claims}.{other_signature}"),
            "with another's claims": format!("{head}.{other_claims}.{signature}"),
            "unsigned": format!("{UNSIGNED}.{claims}."),
        });
        // What is waited for is the time itself: until the first of them is past its own.
        std::thread::sleep(MOMENT.saturating_sub(begun.elapsed()));
        Ok(tokens)
    }

    /// A file with the password of each user: what is typed is read from there.
    pub(super) fn passwords(&self) -> anyhow::Result<()> {
        for user in [ADMIN, USER] {
            fs::write(self.folder.join(format!("{user}.txt")), password(user))?;
        }
        fs::write(self.folder.join(format!("{USER}-wrong.txt")), "wrong")?;
        Ok(())
    }

    /// Users in a data directory of ours.
    pub(super) fn users(&self) -> anyhow::Result<()> {
        for user in [ADMIN, USER] {
            let file = format!("{user}.txt");
            self.run("user add --data-dir data", &[user, "--password-file", &file])?;
        }
        Ok(())
    }

    /// Gives the clients of a run what they need.
    pub(super) fn rights(&self, run: &str, port: u16) -> anyhow::Result<()> {
        let of = format!("{run}-");
        for (resource, operations) in RIGHTS {
            let resource = format!("--{resource}={of}");
            self.allow(USER, port, operations, &[&resource, "--prefixed"])?;
        }
        let readers = format!("--group={GROUP_OF_READERS}");
        self.allow(USER, port, &["describe"], &[&readers])
    }

    /// Lets who has not said who he is read the figures.
    pub(super) fn show_figures(&self, port: u16) -> anyhow::Result<()> {
        self.allow("ANONYMOUS", port, &["describe"], &["--cluster"])
    }

    fn allow(&self, user: &str, port: u16, operations: &[&str], of: &[&str]) -> anyhow::Result<()> {
        let (to, at) = (format!("--allow=User:{user}"), format!("--bootstrap=127.0.0.1:{port}"));
        let login = ["--ca=certs/ca.pem", "--login=admin", "--login-password-file=admin.txt"];
        let operations: Vec<_> = operations.iter().map(|it| format!("--operation={it}")).collect();
        let mut words = vec![to.as_str(), at.as_str()];
        words.extend(operations.iter().map(String::as_str).chain(login).chain(of.iter().copied()));
        self.run("acl add", &words)
    }
}

/// Header, claims and signature of a token.
fn parts(token: &str) -> anyhow::Result<[&str; 3]> {
    let parts: Vec<&str> = token.split('.').collect();
    parts.try_into().map_err(|_| anyhow::anyhow!("`{token}` is no token"))
}
