//! What is done to delegation tokens, and the record that it leaves.

use std::net::SocketAddr;

use millstream_auth::{ClientExchange, Nonce, TokenHmac};
use tokio::net::TcpStream;

use super::super::*;

const PASSWORD: &str = "pencil";

async fn start_with_tokens(directory: &Path) -> Server {
    let mut config = ServerConfig { kafka_listen: None, ..ServerConfig::in_directory(directory) };
    for (name, value) in [
        ("listeners", "SASL_PLAINTEXT://127.0.0.1:0"),
        ("authorizer.class.name", "standard"),
        ("super.users", "User:admin"),
        ("delegation.token.secret.key", "a secret that is as long as it has to be"),
    ] {
        config.settings.insert(name.to_owned(), value.to_owned());
    }
    let server = Server::start(config).await.expect("starts");
    for user in ["alice", "bob"] {
        add_user(&server, user, PASSWORD).await;
    }
    server
}

async fn logged_in(at: SocketAddr, exchange: ClientExchange) -> Client<TcpStream> {
    let mut client = Client::over(TcpStream::connect(at).await.expect("it listens"));
    client.log_in(exchange).await.expect("logs in");
    client
}

async fn by_password(server: &Server, user: &str) -> Client<TcpStream> {
    let at = server.kafka_address().expect("it listens");
    let exchange =
        ClientExchange::new(Mechanism::Scram(Hash::Sha256), user, PASSWORD, Nonce([1; 24]));
    logged_in(at, exchange).await
}

async fn create(
    client: &mut Client<TcpStream>,
    owner: &'static str,
    renewer: Option<&'static str>,
) -> CreateDelegationTokenResponse {
    let renewers = renewer.map(|name| create_delegation_token_request::CreatableRenewers {
        principal_type: "User".into(),
        principal_name: name.into(),
    });
    let request = CreateDelegationTokenRequest {
        owner_principal_type: Some("User".into()),
        owner_principal_name: Some(owner.into()),
        renewers: renewers.into_iter().collect(),
        max_lifetime_ms: -1,
    };
    client.ask(3, request).await
}

async fn renew(client: &mut Client<TcpStream>, hmac: &bytes::Bytes) {
    let hmac = hmac.clone();
    client.ask(2, RenewDelegationTokenRequest { hmac, renew_period_ms: -1 }).await;
}

async fn expire(client: &mut Client<TcpStream>, hmac: &bytes::Bytes, expiry_time_period_ms: i64) {
    let hmac = hmac.clone();
    client.ask(2, ExpireDelegationTokenRequest { hmac, expiry_time_period_ms }).await;
}

#[tokio::test]
async fn whatever_is_done_to_a_delegation_token_leaves_its_record() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = start_with_tokens(directory.path()).await;
    let mut alice = by_password(&server, "alice").await;
    let mut bob = by_password(&server, "bob").await;
    let of_alice = create(&mut alice, "", Some("bob")).await;
    let of_bob = create(&mut bob, "", None).await;
    create(&mut alice, "carol", None).await;
    renew(&mut bob, &of_alice.hmac).await;
    renew(&mut alice, &of_bob.hmac).await;
    let nobodys = bytes::Bytes::from_static(&[7; 64]);
    renew(&mut alice, &nobodys).await;
    expire(&mut bob, &of_alice.hmac, 3_600_000).await;
    expire(&mut alice, &of_bob.hmac, -1).await;
    let password = TokenHmac::said(of_alice.hmac.to_vec()).password();
    let nonce = Nonce([2; 24]);
    let exchange =
        ClientExchange::new(Mechanism::Scram(Hash::Sha512), &of_alice.token_id, &password, nonce);
    let at = server.kafka_address().expect("it listens");
    let mut program = logged_in(at, exchange.by_token()).await;
    create(&mut program, "", None).await;
    renew(&mut program, &of_alice.hmac).await;
    expire(&mut bob, &of_alice.hmac, -1).await;
    expire(&mut bob, &of_alice.hmac, -1).await;
    // Who only asks leaves none.
    alice.ask(3, DescribeDelegationTokenRequest { owners: None }).await;
    server.stop().await;
    let records = audit(directory.path()).await;
    let told: Vec<_> = records
        .iter()
        .map(|(_, record)| {
            format!("{}: {}", record["user"].as_str().expect("a user"), short(record))
        })
        .collect();
    let (a, b) = (of_alice.token_id.as_str(), of_bob.token_id.as_str());
    let expected = [
        format!(
            "alice: change done: CreateDelegationToken Create DelegationToken `{a}` - owner=alice \
             renewers=User:bob"
        ),
        format!("bob: change done: CreateDelegationToken Create DelegationToken `{b}` - owner=bob"),
        "alice: access refused: CreateDelegationToken CreateTokens User `User:carol` \
         DELEGATION_TOKEN_AUTHORIZATION_FAILED"
            .to_owned(),
        format!("bob: change done: RenewDelegationToken Alter DelegationToken `{a}` - owner=alice"),
        format!(
            "alice: change refused: RenewDelegationToken Alter DelegationToken `{b}` \
             DELEGATION_TOKEN_OWNER_MISMATCH owner=bob"
        ),
        "alice: change refused: RenewDelegationToken Alter DelegationToken `` DELEGATION_TOKEN_NOT_FOUND".to_owned(),
        format!("bob: change done: ExpireDelegationToken Alter DelegationToken `{a}` - owner=alice"),
        format!(
            "alice: change refused: ExpireDelegationToken Delete DelegationToken `{b}` \
             DELEGATION_TOKEN_OWNER_MISMATCH owner=bob"
        ),
        "alice: change refused: CreateDelegationToken Create DelegationToken `` \
         DELEGATION_TOKEN_REQUEST_NOT_ALLOWED owner=alice"
            .to_owned(),
        format!(
            "alice: change refused: RenewDelegationToken Alter DelegationToken `{a}` \
             DELEGATION_TOKEN_REQUEST_NOT_ALLOWED owner=alice"
        ),
        format!("bob: change done: ExpireDelegationToken Delete DelegationToken `{a}` - owner=alice"),
        "bob: change refused: ExpireDelegationToken Delete DelegationToken `` DELEGATION_TOKEN_NOT_FOUND".to_owned(),
    ];
    assert_eq!(told, expected);
}
