//! SCRAM, the server's side (RFC 5802; with SHA-256 RFC 7677): both prove that they know what belongs to the
//! password, and neither says it.

mod message;

use millstream_types::Principal;
use subtle::ConstantTimeEq as _;

use crate::exchange::{Proven, Refused, TokenOwner};
use crate::{Credential, Hash};

pub(crate) use message::{Final, First, name};

/// Who somebody is whose proof is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The user himself.
    User(Principal),
    /// Whom a delegation token stands for; `None` for one that there is not, whatever is proven.
    Token(Option<TokenOwner>),
}

/// What a server knows between a client's two messages.
#[derive(Clone, Debug)]
pub(crate) struct Challenge {
    hash: Hash,
    whose: Whose,
    credential: Credential,
    /// The client's and the server's.
    nonce: String,
    /// How much of that is the client's, in bytes.
    own: usize,
    /// How the client's first message began, which its last one repeats.
    header: String,
    /// `client-first-message-bare "," server-first-message`.
    said: String,
}

impl Challenge {
    /// Challenges a client by the credential of the user that it says it is, or what stands for it.
    pub(crate) fn new(
        hash: Hash,
        first: &First<'_>,
        (credential, whose): (Credential, Whose),
        server_nonce: &str,
    ) -> (Self, Vec<u8>) {
        let nonce = format!("{}{server_nonce}", first.nonce);
        let answer = message::server_first(&nonce, &credential.salt, credential.iterations);
        let challenge = Self {
            hash,
            whose,
            credential,
            nonce,
            own: first.nonce.len(),
            header: first.header.to_owned(),
            said: format!("{},{answer}", first.bare),
        };
        (challenge, answer.into_bytes())
    }

    /// Whether the client's last message proves what it has to: who it is then, and the server's own proof.
    pub(crate) fn verify(self, last: &Final<'_>) -> Result<Proven, Refused> {
        // What was said to another challenge, or about another beginning, proves nothing.
        if last.nonce != self.nonce && !self.is_doubled(last.nonce) {
            return Err(Refused::Nonce);
        }
        if last.binding != self.header.as_bytes() {
            return Err(Refused::ChannelBinding);
        }
        if last.proof.len() != self.hash.size() {
            return Err(Refused::Malformed);
        }
        let said = [self.said.as_bytes(), b",", last.without_proof.as_bytes()];
        let signature = self.hash.hmac(&self.credential.stored_key, &said);
        let client_key: Vec<u8> =
            last.proof.iter().zip(&signature).map(|(proof, signature)| proof ^ signature).collect();
        let fits: bool = self.hash.digest(&client_key).ct_eq(&self.credential.stored_key).into();
        if !fits {
            return Err(Refused::Credentials);
        }
        let own = self.hash.hmac(&self.credential.server_key, &said);
        let answer = message::server_final(&own).into_bytes();
        match self.whose {
            Whose::User(user) => Ok(Proven { user, answer, lifetime: None, by_token: false }),
            Whose::Token(Some(TokenOwner { user, lifetime })) => {
                Ok(Proven { user, answer, lifetime: Some(lifetime), by_token: true })
            }
            Whose::Token(None) => Err(Refused::Credentials),
        }
    }

    /// Whether the client's part stands twice before the server's. So librdkafka says it before 2.6.1, and Apache
    /// Kafka takes it; it belongs to this exchange all the same, and the proof covers it.
    fn is_doubled(&self, nonce: &str) -> bool {
        let own = self.nonce.get(..self.own).and_then(|own| nonce.strip_prefix(own));
        own.is_some_and(|rest| rest == self.nonce)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;

    use super::*;
    use crate::Derivation;

    const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";

    fn challenge(hash: Hash) -> (Challenge, String) {
        let salt = BASE64.decode(SALT).expect("base64");
        let salted = Derivation::new(hash, b"pencil", &salt, 4_096).finish();
        let credential = Credential::of_salted(hash, salt, 4_096, &salted);
        let first = First::parse(FIRST).expect("a message");
        let whose = Whose::User(Principal::user("user"));
        let (challenge, answer) = Challenge::new(hash, &first, (credential, whose), SERVER_NONCE);
        (challenge, String::from_utf8(answer).expect("text"))
    }

    /// The last message of the example of RFC 7677, with another part in place of `from`.
    fn last(proof: &str, from: &str, to: &str) -> String {
        let nonce = format!("rOprNGfwEbeRWgbNEkqO{SERVER_NONCE}");
        format!("c=biws,r={nonce},p={proof}").replacen(from, to, 1)
    }

    const PROOF_256: &str = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    /// Worked out with Python's `hashlib` and `hmac`: no RFC has an example of SHA-512.
    const PROOF_512: &str = "gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw\
        +3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ==";
    const SIGNATURE_512: &str = "ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0v\
        SVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw==";

    /// RFC 7677 section 3.
    #[test]
    fn the_rfcs_example_is_answered_as_it_says() {
        for (hash, proof, signature) in [
            (Hash::Sha256, PROOF_256, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
            (Hash::Sha512, PROOF_512, SIGNATURE_512),
        ] {
            let (challenge, answer) = challenge(hash);
            let nonce = format!("rOprNGfwEbeRWgbNEkqO{SERVER_NONCE}");
            assert_eq!(answer, format!("r={nonce},s={SALT},i=4096"));
            let last = last(proof, "", "");
            let verified = challenge.verify(&Final::parse(last.as_bytes()).expect("a message"));
            let (user, answer) = (Principal::user("user"), format!("v={signature}").into_bytes());
            let expected = Proven { user, answer, lifetime: None, by_token: false };
            assert_eq!(verified, Ok(expected));
        }
    }

    #[test]
    fn what_was_changed_on_its_way_proves_nothing() {
        let flipped = PROOF_256.replacen("dHzb", "dHzc", 1);
        for (last, expected) in [
            (last(&flipped, "", ""), Refused::Credentials),
            // The proof covers extensions, too.
            (last(PROOF_256, ",p=", ",x=y,p="), Refused::Credentials),
            // Another login's nonce, in either part; or a part of it.
            (last(PROOF_256, "rOpr", "sOpr"), Refused::Nonce),
            (last(PROOF_256, "$k0", "$k1"), Refused::Nonce),
            (last(PROOF_256, SERVER_NONCE, ""), Refused::Nonce),
            // `y,,` and `p=tls-unique,,`: somebody has changed what was first said.
            (last(PROOF_256, "biws", "eSws"), Refused::ChannelBinding),
            (last(PROOF_256, "biws", "cD10bHMtdW5pcXVlLCw="), Refused::ChannelBinding),
            (last("", "", ""), Refused::Malformed),
            (last(&PROOF_256[..40], "", ""), Refused::Malformed),
            (last(PROOF_512, "", ""), Refused::Malformed),
        ] {
            let (challenge, _) = challenge(Hash::Sha256);
            let verified = challenge.verify(&Final::parse(last.as_bytes()).expect("a message"));
            assert_eq!(verified, Err(expected), "{last}");
        }
    }
}
